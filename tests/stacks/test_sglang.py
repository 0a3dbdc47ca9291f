"""The released SGLang, with its kernels left out: `make test-sglang` runs this, with the package in place."""

import numpy as np
import pytest
import torch

from retrieval_draft.adapters.sglang import NAME, NoCorpus, register, worker_class
from retrieval_draft.adapters.sglang_batch import padded
from retrieval_draft.tree import DraftTree, int32s
from tests.stacks.stubs import KERNELS, stand_in

pytest.importorskip("sglang.version", reason="make test-sglang has SGLang")
