"""TensorFlow operations that reach beyond numbers, and the names of all that TensorFlow itself has.

Concept: what an operation can do is decided by its name, because running a graph runs its operations. Names that are
in neither list belong to a library that must be loaded first: worth knowing.

The list of names was taken from the registry of TensorFlow 2.21 and holds one name per line, so that it can be
made again and compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from assay.spec.finding import Finding, Severity

_RISKY: dict[Severity, str] = {
    Severity.EXECUTE: (
        "PyFunc PyFuncStateless EagerPyFunc RemoteCall TPUPartitionedCallOp DatasetFromGraph TRTEngineOp "
        "RemoteFusedGraphExecute"
    ),
    Severity.WRITE: (
        "WriteFile Save SaveSlices WriteImageSummary WriteAudioSummary WriteSummary WriteScalarSummary "
        "WriteHistogramSummary WriteGraphSummary WriteRawProtoSummary CreateSummaryFileWriter CreateSummaryDbWriter "
        "ImportEvent SaveDataset SaveDatasetV2 DistributedSave SnapshotDataset SnapshotDatasetV2 CacheDataset "
        "CacheDatasetV2 DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNanCount DebugNumericSummary "
        "DebugNumericSummaryV2 DumpTensor DatasetToTFRecord ExperimentalDatasetToTFRecord FileSystemSetConfiguration"
    ),
    Severity.NETWORK: (
        "DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4 RegisterDataset "
        "RegisterDatasetV2 RpcClient RpcCall RpcServer RpcServerStart Rpc TryRpc "
        "GcsConfigureCredentials GcsConfigureBlockCache BigQueryReader BigtableClient"
    ),
    Severity.READ: (
        "ReadFile MatchingFiles MatchingFilesDataset ImmutableConst TFRecordDataset TFRecordDatasetV2 TextLineDataset "
        "FixedLengthRecordDataset FixedLengthRecordDatasetV2 CSVDataset CSVDatasetV2 SqlDataset LMDBDataset "
        "ExperimentalCSVDataset ExperimentalSqlDataset ExperimentalLMDBDataset LoadDataset SnapshotDatasetReader "
        "WholeFileReader WholeFileReaderV2 TFRecordReader TFRecordReaderV2 TextLineReader TextLineReaderV2 "
        "FixedLengthRecordReader FixedLengthRecordReaderV2 LMDBReader LoadAndRemapMatrix GenerateVocabRemapping "
        "DecodeProtoV2 EncodeProto ExperimentalMatchingFilesDataset SnapshotNestedDatasetReader"
    ),
}

RISKY: Mapping[str, Severity] = {name: severity for severity, names in _RISKY.items() for name in names.split()}
"""Operation to what it can do with the files, the network or the Python of whoever runs the graph.

``SaveV2`` and ``RestoreV2`` are not in it: every SavedModel and every checkpoint graph has them for its own variables.
What they and their like are told to open is looked at in ``file_names``.
"""

MAX_UNKNOWN = 50
"""Names of unknown operations given one by one."""


@cache
def known_ops() -> frozenset[str]:
    """Names of all operations that TensorFlow registers by itself."""
    return frozenset(files("assay.formats.tensorflow").joinpath("ops.txt").read_text("utf-8").split())


def judge_ops(ops: Mapping[str, int], path: str) -> list[Finding]:
    """Findings about the operations of a graph.

    Args:
        ops: operation to how often it occurs.
        path: the entry they stand in.
    """
    findings = []
    unknown = []
    for name, count in sorted(ops.items()):
        if name in RISKY:
            severity = RISKY[name]
            text = f"operation {name} can {_DOES[severity]}"
            findings.append(Finding("tensorflow-risky-op", severity, text, path, evidence=f"{name} x{count}"))
        elif name not in known_ops():
            unknown.append(name)
    for name in unknown[:MAX_UNKNOWN]:
        text = "an operation that TensorFlow does not have by itself"
        findings.append(Finding("tensorflow-custom-op", Severity.NOTE, text, path, evidence=name[:200]))
    if len(unknown) > MAX_UNKNOWN:
        text = f"{len(unknown)} operations that TensorFlow does not have by itself"
        findings.append(Finding("tensorflow-custom-op", Severity.NOTE, text, path))
    return findings


def histogram(ops: Counter[str], most: int = 200) -> dict[str, int]:
    """The most frequent operations."""
    return {name[:200]: count for name, count in ops.most_common(most)}


_DOES = {
    Severity.EXECUTE: "run code outside the graph",
    Severity.WRITE: "write files",
    Severity.NETWORK: "reach the network",
    Severity.READ: "read files",
}
