"""TensorFlow operations that reach beyond numbers, and the names of all that TensorFlow itself has.

Concept: what an operation can do is decided by its name, because running a graph runs its operations. The names of
``ops.txt`` were looked through, and those that do more than compute stand in ``RISKY`` too. A name that is in neither
list belongs to a library that must be loaded first: what it does is not known.

The list of names was taken from the registry of TensorFlow 2.21 and holds one name per line, so that it can be
made again and compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files

from assay.spec.finding import Finding, Severity

_RISKY: dict[Severity, str] = {
    Severity.EXECUTE: (
        "PyFunc PyFuncStateless EagerPyFunc RemoteCall TPUPartitionedCallOp DatasetFromGraph TRTEngineOp "
        "RemoteFusedGraphExecute XlaCustomCall XlaCustomCallV2"
    ),
    Severity.WRITE: (
        "WriteFile CalibrationStatisticsSaver WriteImageSummary WriteAudioSummary WriteSummary WriteScalarSummary "
        "WriteHistogramSummary WriteGraphSummary WriteRawProtoSummary CreateSummaryFileWriter CreateSummaryDbWriter "
        "ImportEvent SaveDataset SaveDatasetV2 DistributedSave SnapshotDataset SnapshotDatasetV2 CacheDataset "
        "CacheDatasetV2 DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNanCount DebugNumericSummary "
        "DebugNumericSummaryV2 DumpTensor DatasetToTFRecord ExperimentalDatasetToTFRecord FileSystemSetConfiguration"
    ),
    Severity.NETWORK: (
        "DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4 RegisterDataset "
        "RegisterDatasetV2 RpcClient RpcCall RpcServer RpcServerStart Rpc TryRpc "
        "GcsConfigureCredentials GcsConfigureBlockCache BigQueryReader BigtableClient RpcServerRegister "
        "WorkerHeartbeat CollectiveAllToAllV2 CollectiveAllToAllV3 CollectiveBcastRecv CollectiveBcastRecvV2 "
        "CollectiveBcastSend "
        "CollectiveBcastSendV2 CollectiveGather CollectiveGatherV2 CollectiveInitializeCommunicator CollectivePermute "
        "CollectiveReduce CollectiveReduceScatterV2 CollectiveReduceV2 CollectiveReduceV3 Send Recv _Send _Recv "
        "_HostSend _HostRecv ConfigureDistributedTPU ConfigureAndInitializeGlobalTPU _ConfigureDistributedTPU "
        "_InitializeHostForDistributedTPU"
    ),
    Severity.READ: (
        "ReadFile MatchingFiles MatchingFilesDataset ImmutableConst TFRecordDataset TFRecordDatasetV2 TextLineDataset "
        "FixedLengthRecordDataset FixedLengthRecordDatasetV2 CSVDataset CSVDatasetV2 SqlDataset LMDBDataset "
        "ExperimentalCSVDataset ExperimentalSqlDataset ExperimentalLMDBDataset LoadDataset SnapshotDatasetReader "
        "WholeFileReader WholeFileReaderV2 TFRecordReader TFRecordReaderV2 TextLineReader TextLineReaderV2 "
        "FixedLengthRecordReader FixedLengthRecordReaderV2 LMDBReader LoadAndRemapMatrix GenerateVocabRemapping "
        "DecodeProtoV2 EncodeProto ExperimentalMatchingFilesDataset SnapshotNestedDatasetReader DTensorRestoreV2 "
        "ListSnapshotChunksDataset SnapshotChunkDataset"
    ),
    Severity.EXHAUST: "Abort",
    Severity.INCOMPLETE: "MlirPassthroughOp _TPUCompileMlir _XlaHostComputeMlir",
}

RISKY: Mapping[str, Severity] = {name: severity for severity, names in _RISKY.items() for name in names.split()}
"""Operation to what it can do with the files, the network or the Python of whoever runs the graph.

``SaveV2`` and ``RestoreV2`` are not in it: every SavedModel and every checkpoint graph has them for its own variables.
What they and their like are told to open is looked at in ``file_names``.
"""

PUBLISHED: Mapping[str, str] = {
    name: library
    for library, names in {
        "tensorflow-text": (
            "CaseFoldUTF8 NormalizeUTF8 NormalizeUTF8WithOffsetsMap FindSourceOffsets ConstrainedSequence "
            "FastBertNormalize FastWordpieceTokenizeWithOffsets FastWordpieceDetokenize TFText>FastBertNormalize "
            "TFText>FastWordpieceTokenizeWithOffsets TFText>FastWordpieceDetokenize TFText>ByteSplitWithOffsets "
            "TFText>NgramsStringJoin TFText>PhraseTokenize TFText>PhraseDetokenize TFText>RoundRobinTrim "
            "TFText>BoiseOffsetConverter TFText>UtfBinarize TFText>WhitespaceTokenizeWithOffsetsV2 "
            "RegexSplitWithOffsets RougeL SentenceFragments SentenceFragmentsV2 SentencepieceOp "
            "SentencepieceTokenizeOp SentencepieceTokenizeWithOffsetsOp SentencepieceDetokenizeOp "
            "SentencepieceVocabSizeOp SentencepieceIdToStringOp SentencepieceStringToIdOp "
            "SplitMergeTokenizeWithOffsets TokenizerFromLogits UnicodeScriptTokenizeWithOffsets "
            "WhitespaceTokenizeWithOffsets WhitespaceTokenizeWithOffsetsV2 WordpieceTokenizeWithOffsets WordshapeOp"
        ),
        "tensorflow-decision-forests": (
            "SimpleMLCreateModelResource SimpleMLInferenceOp SimpleMLInferenceOpWithHandle "
            "SimpleMLInferenceLeafIndexOpWithHandle SimpleMLLoadModelFromPathWithHandle "
            "SimpleMLLoadModelFromPath SimpleMLNumericalFeature"
        ),
    }.items()
    for name in names.split()
}
"""Operations of published libraries that compute, and the distribution that has them."""

MAX_UNKNOWN = 50
"""Names of unknown operations given one by one."""


@cache
def known_ops() -> frozenset[str]:
    """Names of all operations that TensorFlow registers by itself."""
    return frozenset(files("assay.formats.tensorflow").joinpath("ops.txt").read_text("utf-8").split())


def judge_ops(ops: Mapping[str, int], path: str, own: Collection[str] = ()) -> list[Finding]:
    """Findings about the operations of a graph.

    Args:
        ops: operation to how often it occurs.
        path: the entry they stand in.
        own: functions that the graph brings along: older graphs use them like operations.
    """
    findings = []
    unknown = []
    for name, count in sorted(ops.items()):
        if name in RISKY:
            severity = RISKY[name]
            text, effect = f"operation {name} can {_DOES[severity]}", _DOES[severity]
            seen = f"{name} x{count}"
            findings.append(Finding("tensorflow-risky-op", severity, text, path, evidence=seen, effect=effect))
        elif name in PUBLISHED:
            text = f"operation {name} needs the library {PUBLISHED[name]}"
            findings.append(Finding("tensorflow-library-op", Severity.NOTE, text, path, evidence=name))
        elif name not in known_ops() and name not in own:
            unknown.append(name)
    for name in unknown[:MAX_UNKNOWN]:
        text = "an operation that TensorFlow does not have by itself"
        findings.append(Finding("tensorflow-custom-op", Severity.INCOMPLETE, text, path, evidence=name[:200]))
    if len(unknown) > MAX_UNKNOWN:
        text = f"{len(unknown)} operations that TensorFlow does not have by itself"
        findings.append(Finding("tensorflow-custom-op", Severity.INCOMPLETE, text, path))
    return findings


def histogram(ops: Counter[str], most: int = 200) -> dict[str, int]:
    """The most frequent operations."""
    return {name[:200]: count for name, count in ops.most_common(most)}


_DOES = {
    Severity.EXECUTE: "run code outside the graph",
    Severity.WRITE: "write files",
    Severity.NETWORK: "reach the network",
    Severity.READ: "read files",
    Severity.EXHAUST: "end the process",
    Severity.INCOMPLETE: "hold more operations, which were not read",
}
