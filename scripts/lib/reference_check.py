#!/usr/bin/env python3
"""Runs `inspectd model trace` on every reference case and compares what it writes with the stored tensors.

For a program that the tests cannot be built for or run in: another processor, a GPU. Needs numpy.
"""
import argparse
import json
import pathlib
import shlex
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests/fixtures/tiny_gqa/reference"
BESIDE = ROOT / "../shared/phi3-vision/reference"

# Largest difference allowed of (pixels, picture embeddings, logits after the prompt, logits of the steps). In
# f32 what the tests allow. The 16-bit forms by the noise of the number type on these models (the publisher's own
# code shows 0.04 to 0.09 in the logits in bf16; f16 keeps three bits more), with room: they catch a wrong
# computation, not a lost digit. Steps have more room: a CPU's one-row products in 16 bits lose more.
TOLERANCES = {"f32": (2e-6, 1e-4, 2e-4, 2e-4), "bf16": (2e-6, 0.15, 0.3, 0.4), "f16": (2e-6, 0.02, 0.05, 0.3)}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inspectd", default="inspectd", metavar="COMMAND",
                        help='the program, with what runs it: "qemu-aarch64-static -L ROOT PROGRAM"')
    parser.add_argument("--kit", type=pathlib.Path, metavar="DIR",
                        help="folder with cases.json (the full kit beside the repository, else the fixture)")
    parser.add_argument("--device", metavar="NAME", help="passed on to model trace")
    parser.add_argument("--precision", choices=TOLERANCES, default="f32", help="passed on to model trace (f32)")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case; repeat for more")
    return parser.parse_args()


def read_safetensors(path):
    """Name -> array of the f32 and i32 tensors of a file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    kinds = {"F32": np.float32, "I32": np.int32}
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            numbers = np.frombuffer(data[8 + length + begin:8 + length + end], kinds[entry["dtype"]])
            tensors[name] = numbers.reshape(entry["shape"])
    return tensors


def trace(args, kit, case, out):
    """Runs one case. Returns (tensors, seconds); exits with the program's own words if it fails."""
    model = kit / "models" / case["model"]
    command = shlex.split(args.inspectd) + ["model", "trace", "--model", str(model if model.exists() else kit / "..")]
    text = out / "prompt"
    if case["prompt"] is None:
        ids = np.load(kit / "cases" / case["name"] / "input_ids.npy")
        text.write_text(json.dumps(ids.reshape(-1).tolist()))
        command += ["--ids-file", str(text)]
    else:
        text.write_bytes(case["prompt"].encode())
        command += ["--prompt-file", str(text)]
    for image in case["images"]:
        command += ["--image", str(kit / image)]
    command += ["--num-crops", str(case["num_crops"]), "--steps", str(len(case["greedy"])), "--ignore-eos",
                "--long-context", "keep", "--out", str(out / "out.safetensors")]
    if args.device:
        command += ["--device", args.device]
    if args.precision != "f32":
        command += ["--precision", args.precision]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{case['name']}: {shlex.join(command)}\nended with status {done.returncode}\n{done.stderr or done.stdout}")
    return read_safetensors(out / "out.safetensors"), time.monotonic() - start


def largest(found, expected):
    if found.shape != expected.shape:
        return float("inf")
    worst = np.abs(found.astype(np.float64) - expected).max() if found.size else 0.0
    return float("inf") if np.isnan(worst) else float(worst)


def compare(found, case, folder, tolerances):
    """(what, difference, allowed) of every tensor of a case."""
    pixels, embeddings, logits, steps = tolerances
    stored = lambda name: np.load(folder / f"{name}.npy")
    yield "ids", float((found["input_ids"].reshape(-1) != stored("input_ids").reshape(-1)).sum()), 0.0
    if case["images"]:
        yield "pixels", largest(found["pixel_values"][..., ::7, ::7], stored("pixel_values_s7")), pixels
        expected = stored("image_embeds")
        yield "embeddings", largest(found["image_embeds"].reshape(-1, expected.shape[-1]), expected), embeddings
    yield "logits", largest(found["logits_last"].reshape(-1), stored("logits_last").reshape(-1)), logits
    # An answer that takes another turn where two tokens are as good as equal is compared up to there.
    greedy, wanted = found["greedy"].reshape(-1).tolist(), case["greedy"]
    same = next((i for i, (a, b) in enumerate(zip(greedy, wanted)) if a != b), len(wanted))
    rows = min(same + 1, len(wanted))
    sampled = found["steps_logits"].reshape(len(wanted), -1)[:rows, ::case["logits_vocab_stride"]]
    yield "steps", largest(sampled, stored("steps_logits_sv")[:rows]), steps
    forgiven = same == len(wanted) or case["step_top1_margin"][same] < 2 * steps
    yield f"greedy {same}/{len(wanted)}", 0.0 if forgiven else 1.0, 0.0


def main():
    args = arguments()
    kit = (args.kit or (BESIDE if (BESIDE / "cases.json").exists() else FIXTURE)).resolve()
    cases = json.loads((kit / "cases.json").read_text())["cases"]
    if args.case:
        unknown = set(args.case) - {case["name"] for case in cases}
        if unknown:
            sys.exit(f"no case {', '.join(sorted(unknown))} in {kit}")
        cases = [case for case in cases if case["name"] in args.case]
    failed, worst = 0, {}
    for case in cases:
        with tempfile.TemporaryDirectory() as out:
            found, seconds = trace(args, kit, case, pathlib.Path(out))
        line = []
        for what, difference, allowed in compare(found, case, kit / "cases" / case["name"], TOLERANCES[args.precision]):
            bad = not difference <= allowed
            failed += bad
            kind = what.split()[0]
            worst[kind] = max(worst.get(kind, 0.0), difference)
            line.append(what if kind == "greedy" and not bad else f"{what} {difference:.1e}{' FAIL' if bad else ''}")
        print(f"{case['name']:22} {seconds:6.1f} s  {', '.join(line)}", flush=True)
    summary = ", ".join(f"{kind} {difference:.1e}" for kind, difference in worst.items() if kind != "greedy")
    print(f"{len(cases)} cases, {failed} comparisons failed; worst: {summary}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
