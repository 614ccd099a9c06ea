"""What spaCy and Thinc bring by themselves: registered functions without a prefix, components, and files of components.

A registry maps names to functions; a name that no published package registers belongs to code that is not in the files.
"""

from __future__ import annotations

import re

from assay.trees import Tree

_OWN = (
    "spacy.",
    "spacy-transformers.",
    "spacy-curated-transformers.",
    "spacy-legacy.",
    "spacy-llm.",
    "thinc.",
    "srsly.",
)
"""Prefixes of the packages by the authors of spaCy."""

_THINC = frozenset(
    """
    Adam RAdam SGD constant constant_then compounding warmup_linear slanted_triangular cyclic_triangular
    decaying plateau glorot_uniform_init glorot_normal_init zero_init uniform_init normal_init
    configure_normal_init configure_uniform_init lecun_normal_init lecun_uniform_init he_normal_init
    he_uniform_init CategoricalCrossentropy SequenceCategoricalCrossentropy L2Distance CosineDistance
    BidirectionalLSTM CauchySimilarity ClippedLinear Dish Dropout Embed FeatureExtractor Gelu HardSigmoid
    HardSwish HardSwishMobilenet HardTanh HashEmbed LSTM LayerNorm Linear Logistic MXNetWrapper Maxout Mish
    MultiSoftmax ParametricAttention ParametricAttention_v2 PyTorchLSTM PyTorchRNNWrapper PyTorchWrapper
    PyTorchWrapper_v2 PyTorchWrapper_v3 Relu ReluK Sigmoid Softmax Softmax_v2 SparseLinear Swish
    TensorFlowWrapper TorchScriptWrapper add array_getitem bidirectional cauchy_similarity chain clone
    concatenate dropout expand_window list2array list2padded list2ragged map_list noop padded2list premap_ids
    ragged2list reduce_first reduce_last reduce_max reduce_mean reduce_sum remap_ids remap_ids_nodtype residual
    resizable siamese sigmoid sigmoid_activation softmax_activation strings2arrays tuplify uniqued with_array
    with_array2d with_cpu with_debug with_flatten with_flatten_v2 with_getitem with_list with_nvtx_range
    with_padded with_ragged with_reshape with_signpost_interval ints_getitem
    """.split()
)
_VERSION = re.compile(r"([A-Za-z_0-9]+)\.v\d+")

_FACTORIES = frozenset(
    """
    attribute_ruler beam_ner beam_parser curated_transformer doc_cleaner entity_linker entity_ruler
    experimental_char_ner experimental_arc_predicter experimental_arc_labeler experimental_coref
    experimental_edit_tree_lemmatizer experimental_span_resolver future_entity_ruler lemmatizer merge_entities
    merge_noun_chunks merge_subtokens morphologizer ner nn_labeller parser sentencizer senter span_cleaner
    span_finder span_ruler spancat spancat_singlelabel tagger textcat textcat_multilabel tok2vec token_splitter
    trainable_lemmatizer transformer
    """.split()
)

_FILES = frozenset(
    """
    LICENSE LICENSES_SOURCES README.md accuracy.json cfg config.cfg meta.json model moves tokenizer patterns
    patterns.jsonl lookups.bin key2row strings.json vectors vectors.cfg tag_map labels kb entities relations
    contents lexemes.bin vocab.bin serializer.bin kb_id strings_path accuracy.txt trees
    """.split()
)
_PICKLED = (b"/data.pkl", b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", b"\xa4kind\xa1O", b"\xc4\x04kind\xc4\x01O")
"""Torch's two kinds of checkpoint, and arrays of Python objects, inside msgpack."""

_CHUNK = 1 << 22
MAX_LOOKED = 1 << 30
"""Bytes of one file that are looked through."""


def is_own_function(name: str) -> bool:
    """Whether a registered function comes with spaCy, Thinc or a package by their authors."""
    found = _VERSION.fullmatch(name)
    return name.startswith(_OWN) or (found is not None and found[1] in _THINC)


def is_own_factory(name: str) -> bool:
    """Whether a component comes with spaCy, perhaps for one language (``ja.morphologizer``)."""
    return name.rpartition(".")[2] in _FACTORIES


def is_part(path: str) -> bool:
    """Whether a file of a pipeline has a name that spaCy's components give their files."""
    return path.rpartition("/")[2] in _FILES


def holds_pickle(tree: Tree, path: str) -> bool:
    """Whether a component's file seems to hold a pickle, as those with torch networks do, or is too large to say."""
    size = tree.size(path)
    if size > MAX_LOOKED:
        return True
    window, longest = tree.open(path), max(map(len, _PICKLED))
    for at in range(0, size, _CHUNK):
        data = window.read(max(0, at - longest), _CHUNK + longest)
        if any(mark in data for mark in _PICKLED):
            return True
    return False
