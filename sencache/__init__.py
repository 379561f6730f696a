"""Per-sample step caching for video diffusion transformers (SenCache, arXiv 2602.24208).

cache = apply_sencache(pipe, "balanced")   # or SenCacheConfig(...), and a profile by calibrate
pipe(prompts)
cache.summary()        # five lines
cache.stats()          # one SampleStats per sample
remove_sencache(pipe)

`__init__.pyi` lists the public names. Each is imported on first use: reading a profile or a setting
loads neither torch nor diffusers. `sencache.extension` has what new policies need. Public as well,
and without torch: `sencache.config` (settings), `sencache.schedules.budget` (exact budgets) and
`sencache.measuring` (priors, and profiles of a program's own clips).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
