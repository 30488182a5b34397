"""Training on torch: data, model, loop, folds, evaluation, export. No Flask."""

import os

# Before torch is loaded: threads that spin while they wait make a fit many times slower as soon as
# anything else runs on the machine (measured with a busy 2-core machine: 8 instead of 60 CPU-seconds).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
