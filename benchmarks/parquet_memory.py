"""The memory that ingest takes for a Parquet file of photographs, by the number of rows in a row group.

    python benchmarks/parquet_memory.py FOLDER [--gigabytes 2] [--rows 100 1000 0]

The photographs of FOLDER are repeated, with a few bytes behind their end, until the file has its size; 0 rows: one row group.
The peak is that of the process, less what it has after its imports, as Linux tells it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from itertools import count, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

READ = """
import sys
from pathlib import Path
import pyarrow.parquet
from darkroom.data.sources import open_source
def peak():  # ru_maxrss would begin with what the parent had
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = peak()
with open_source(Path(sys.argv[1])) as source:
    size = sum(len(source.read(file)) for file in source.files)
print(size, peak() - before)
"""
KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, photographs: list[bytes], size: float, rows: int) -> int:
    """Write a file of `size` bytes; return the number of its rows."""
    total = int(size // (sum(map(len, photographs)) / len(photographs)))
    contents = (photographs[i % len(photographs)] + i.to_bytes(4, "big") for i in count())
    with pq.ParquetWriter(path, pa.schema([("image", KIND), ("label", pa.string())])) as writer:
        for start in range(0, total, rows or total):
            images = [{"bytes": content, "path": None} for content in islice(contents, min(rows or total, total - start))]
            table = pa.table({"image": pa.array(images, KIND), "label": ["ab"[i % 2] for i in range(len(images))]})
            writer.write_table(table, row_group_size=rows or total)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 1000, 0])
    arguments = parser.parse_args()
    photographs = [path.read_bytes() for path in sorted(arguments.folder.rglob("*.jpg"))]
    print("rows in a row group   rows in all   MB of the file   MB of memory")
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "photographs.parquet")
            total = write(path, photographs, arguments.gigabytes * 1e9, rows)
            done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
            peak = int(done.stdout.split()[1]) * 1024
            print(f"{rows or total:>19,} {total:>13,} {path.stat().st_size / 1e6:>16,.0f} {peak / 1e6:>14,.0f}", flush=True)


if __name__ == "__main__":
    main()
