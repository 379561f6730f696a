"""The bad command lines. Knows nothing of how they are run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Values = Mapping[str, str]
DRY = "--dry-run"

JOB_CASES: Mapping[str, Sequence[str]] = {
    # Flags
    "nothing": ["bare"],
    "no output": ["bare", "--prompts=p.txt"],
    "unknown flag": ["--max-atempts", "3"],
    "unknown flag of a section": ["--cache.epsilom=1"],
    "section as a flag": ["--cache", "fast"],
    "value without flag": ["stray"],
    "flag without value": ["--limit"],
    "switch with a value": ["--dry-run=5"],
    "empty model": ["--model="],
    "not a number": ["--sampling.width", "wide"],
    "not whole": ["--limit=1.5"],
    "not finite": ["--part-seconds=nan"],
    "infinite": ["--call-deadline-s=inf"],
    "no such device": ["--device=tpu"],
    "no such dtype": ["--dtype=int8"],
    "no such quality": ["--cache.quality=best"],
    "no such policy": ["--cache.policy", "magic"],
    "no such verdict": ["--cache.uncond-verdict=mine"],
    "no such attention": ["--engine.attention=fast"],
    "no such offload": ["--engine.offload=disk"],
    "no such stage": ["--stages.text=apart"],
    "no truth value": ["--engine.vae-tiling=perhaps"],
    # Ranges
    "fraction": ["--max-failed-fraction", "1.5"],
    "controls": ["--control-fraction=-0.1"],
    "limit": ["--limit=0"],
    "copies": ["--samples-per-prompt=0"],
    "replicas": ["--replicas=0"],
    "replicas word": ["--replicas=many"],
    "batch": ["--batch-rows=2.5"],
    "price": ["--gpu-price-per-hour=-1"],
    "part rows": ["--part-rows=0"],
    "steps": ["--sampling.num-inference-steps=1001"],
    "guidance": ["--sampling.guidance-scale=-1"],
    "fps": ["--sampling.fps=0"],
    "seed": ["--sampling.seed=-1"],
    "shift": ["--sampling.flow-shift=0"],
    "budget 0": ["--cache.budget=0"],
    "budget 2": ["--cache.budget=2"],
    "order": ["--cache.order=4"],
    "gate": ["--cache.gate=-1"],
    "epsilon": ["--cache.epsilon=-1"],
    "reuse": ["--cache.max-reuse=0"],
    "branches": ["--parallel.cfg=3"],
    "text gpus": ["--stages.text-gpus=2"],
    # Settings files
    **{
        f"settings file {name}": [f"--config={{folder}}/{name}.yaml", DRY]
        for name in (
            *("bad", "unknown", "nested", "list", "section", "bool", "range", "word", "both"),
            *("python", "twice", "bytes", "nope"),
        )
    },
    "settings folder": ["--config={folder}"],
    # Caches
    "budget and epsilon": ["--cache.budget=0.4", "--cache.epsilon=0.1"],
    "quality and policy": ["--cache.quality=fast", "--cache.policy=paper"],
    "quality and budget": ["--cache.quality=fast", "--cache.budget=0.3"],
    "policy and budget": ["--cache.policy=paper", "--cache.budget=0.3"],
    "policy and epsilon": ["--cache.policy=planned", "--cache.epsilon=0.3"],
    "official": ["--cache.policy=official"],
    "gate without room": ["--cache.budget=0.9", "--cache.gate=30", DRY],
    "no profile": ["--model=cogvideox-2b", DRY],
    "missing profile": ["--cache.profile={folder}/nope.json", DRY],
    "empty profile": ["--cache.profile={folder}/profile.json", DRY],
    "text as profile": ["--cache.profile={folder}/text.json", DRY],
    "controls without cache": ["--cache.policy=none", "--control-fraction=0.1", DRY],
    "profile of another model": ["--cache.profile={wan}", DRY],
    "profile without drift": ["--cache.profile={driftless}", "--cache.quality=high", DRY],
    "plan for a random sampler": [
        *("--model=cogvideox-5b", "--cache.profile={cogvideox}", "--cache.quality=high", DRY),
    ],
    # These two are warnings.
    "profile of another sampler": [
        *("--model=wan2.1-t2v-1.3b", "--cache.profile={wan}", DRY),
        "--sampling.sampler=FlowMatchEulerDiscreteScheduler",
    ],
    "branches without guidance": [
        *("--parallel.degree=2", "--parallel.cfg=2", "--sampling.guidance-scale=1", DRY),
    ],
    # Models, samplers and sizes
    "unknown model": ["--model=wan2.1-t2v-1.3", DRY],
    "strange model": ["--model=sora", DRY],
    "model without weights": ["--model=wan2.1-i2v-14b", DRY],
    "weights nowhere": ["--model-path={folder}/nowhere", DRY],
    "weights empty": ["--model-path={folder}/weights", DRY],
    "weights of another": ["--model=demo", "--model-path={folder}/other", DRY],
    "weights without class": ["--model-path={folder}/index", DRY],
    "sampler": ["--sampling.sampler=EulerDiscreteScheduler", DRY],
    "sampler shift": [
        "--model=cogvideox-2b",
        "--cache.policy=none",
        "--sampling.flow-shift=2",
        DRY,
    ],
    "width": ["--sampling.width=70", DRY],
    "small width": ["--sampling.width=8", DRY],
    "height": ["--sampling.height=100", DRY],
    "frames": ["--sampling.num-frames=16", DRY],
    "few frames": [
        *("--model=ltx-video-i2v", "--cache.policy=none", "--sampling.num-frames=1", DRY),
    ],
    "pixels": [
        *("--sampling.width=16384", "--sampling.height=16384", "--sampling.num-frames=17", DRY),
    ],
    "negative prompt": [
        *("--model=hunyuanvideo", "--cache.policy=none", "--sampling.negative-prompt=bad", DRY),
    ],
    # Parallelism and engine
    "backend": ["--parallel.backend=xfuser", "--parallel.degree=2", "--device=cpu", DRY],
    "ring": ["--parallel.degree=6", "--parallel.ring=4", DRY],
    "ring on processors": ["--parallel.degree=2", "--parallel.ring=2", "--device=cpu", DRY],
    "odd branches": ["--parallel.degree=3", "--parallel.cfg=2", DRY],
    "vae alone": ["--parallel.vae", DRY],
    "attention": ["--engine.attention=flash", "--device=cpu", DRY],
    "offload": ["--engine.offload=model", "--device=cpu", DRY],
    "adapter weight": ["--engine.adapters={adapter}@much", DRY],
    "adapter nan": ["--engine.adapters={adapter}@nan", DRY],
    "adapter kind": ["--engine.adapters={folder}/style.pt", DRY],
    "adapter nowhere": ["--engine.adapters={folder}/nowhere.safetensors", DRY],
    # Prompt files
    **{
        f"prompts {name}": [f"--prompts={{folder}}/{name}", DRY]
        for name in (
            *("nope.txt", "empty.txt", "blank.txt", "empty.jsonl", "broken.jsonl", "p.csv"),
            *("header.csv", "twice.csv", "utf16.csv", "p.doc", "p.jsonl.gz", "torn.parquet"),
            *("empty.parquet", "mixed", "mixed/*.parquet", "weights/deep/nope.csv"),
        )
    },
    "prompt column": ["--prompts={folder}/p.csv", "--prompt-column=caption_en", DRY],
    "output in a file": ["--output={folder}/p.txt/out"],
    "output of no kind": ["--output=nowhere://bucket/out"],
    # Other jobs
    "calibrate nothing": ["calibrate"],
    **{
        f"calibrate {flag}": [
            *("calibrate", "--prompts={folder}/p.txt", "--output={folder}/new.json", flag),
        ]
        for flag in (
            *("--clips=0", "--clips=many", "--gain-clips=-1", "--curve-clips=-1", "--model=sora"),
            *("--cache.policy=paper", "--sampling.width=33", "--model=ltx-video-i2v"),
            *(
                "--clips-from=/nowhere",
                "--prompts={folder}/nope.txt",
                "--prompts={folder}/empty.txt",
            ),
            *("--output={folder}/p.txt/new.json", "--device=tpu", "--dtype=int8"),
        )
    },
    "report nothing": ["report"],
    "report nowhere": ["report", "--output={folder}/nowhere"],
    "report two": ["report", "--output={folder}/made", "--estimate=wan2.1-t2v-14b:480p"],
    "report size": ["report", "--estimate=wan2.1-t2v-14b"],
    "report model": ["report", "--estimate=sora:480p"],
    **{
        f"report {flag}": ["report", "--output={folder}/made", flag]
        for flag in (
            *("--price=cheap", "--price=moon:x=2", "--cloud=moon", "--market=grey"),
            *("--what-if=0.5,2", "--what-if=some", "--more-clips=few", "--watch=soon"),
            "--unknown",
        )
    },
    "report table": [
        "report",
        "--output={folder}/made",
        "--cloud=aws",
        "--price-table={folder}/prices.yaml",
    ],
    "report no table": [
        *("report", "--output={folder}/made", "--cloud=aws", "--price-table={folder}/nope.yaml"),
    ],
    "export nothing": ["export"],
    "export nowhere": ["export", "--output={folder}/nowhere", "--to={folder}/to"],
    **{
        f"export {flag}": ["export", "--output={folder}/made", "--to={folder}/to", flag]
        for flag in (
            *("--format=zip", "--splits=train=much", "--splits=a=1,a=2", "--splits=9=1"),
            *("--shard-rows=0", "--shard-rows=x", "--where=no_column > 1", "--where=width >"),
            *("--where=width > 9999", "--with-control"),
        )
    },
    "export damaged": ["export", "--output={folder}/made", "--to={folder}/to"],
    "benchmark nothing": ["benchmark"],
    "benchmark unknown": ["benchmark", "speed"],
    "benchmark model": ["benchmark", "cache", "--model=dem"],
    "benchmark samples": ["benchmark", "pipeline", "--samples=1"],
}
"""Name to command line. `{folder}` holds the bad files; `bare`: without the usual flags."""
