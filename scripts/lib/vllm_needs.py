"""What the package of vLLM for processors needs, one requirement a line, for pip."""

import sys
import zipfile

wheel = zipfile.ZipFile(sys.argv[1])
metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
for line in wheel.read(metadata).decode().splitlines():
    name, _, need = line.partition(": ")
    if name == "Requires-Dist" and "extra ==" not in need:
        print(need.replace("+cpu", "") if need.startswith("torch==") else need)
