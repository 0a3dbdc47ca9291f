"""Drawing tokens so that drafting cannot change them: noise by counter, not by order of use.

The processed distribution is: logits / temperature, then top-k, then top-p (of what top-k kept,
renormalised). Ties with the last token kept stay, so the set never depends on a sort's whim. A draw
is Gumbel-max: argmax(logits / temperature + g) over the kept tokens, where g depends on (seed,
position, token id) alone: not on batch, tree, filter or step. So with the same seed, decoding with
drafts gives the tokens that decoding without gives. The inverse CDF has the same law, but its one
uniform number lies between two of V borders, which all shift with the rounding of every logit;
here only a near-tie of the two best scores can flip, which in float32 is about 1000 times rarer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from retrieval_draft.errors import InvalidInput
from retrieval_draft.gpu.gumbel import GOLDEN, MIX_1, MIX_2, draw_row

TEMPERATURE_MAX = 100.0
SEED_MAX = 2**64 - 1
COIN = 0x2545F4914F6CDD1D  # keeps the coins of `accepts` apart from the draws' noise
TOP_P_TOKENS_FIRST = 128  # how many tokens top-p sorts at first; times 8 until they carry its mass


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How tokens are drawn. `temperature` 0 is greedy; `top_p` 1 and `top_k` 0 keep all tokens."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        if not 0 <= self.temperature <= TEMPERATURE_MAX:
            raise InvalidInput("temperature", self.temperature, f"0 to {TEMPERATURE_MAX:g}")
        if not 0 < self.top_p <= 1:
            raise InvalidInput("top_p", self.top_p, "above 0, up to 1")
        if self.top_k < 0:
            raise InvalidInput("top_k", self.top_k, "0 or more")
        if not 0 <= self.seed <= SEED_MAX:
            raise InvalidInput("seed", self.seed, f"0 to {SEED_MAX}")


def probabilities(logits: Tensor, options: SamplingOptions) -> Tensor:
    """float64[r, V]: the processed distribution that `draw` draws from, of logits [r, V]."""
    if options.temperature == 0:
        chosen = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits, dtype=torch.float64).scatter_(1, chosen, 1.0)
    scaled = logits.double() / options.temperature
    floor = _floor(logits, options)
    if floor is not None:
        scaled = scaled.masked_fill(logits < floor, -math.inf)
    return scaled.softmax(-1)


def draw(logits: Tensor, positions: Sequence[int], options: SamplingOptions) -> list[int]:
    """One token per row of logits [r, V]; positions[r] is where the token will stand.

    Deterministic. On the CPU a row is one pass of a kernel; elsewhere all rows go through one batch
    of operations and one transfer. Both give the same tokens.
    """
    if options.temperature == 0:
        return likeliest(logits)
    keys = [_key(options.seed, position) for position in positions]
    floor = _floor(logits, options)
    if logits.device.type != "cpu":
        return _draw_batch(logits, keys, floor, options.temperature)
    floors = [-math.inf] * len(keys) if floor is None else floor[:, 0].tolist()
    return [
        draw_row(row, options.temperature, row_floor, key)
        for row, row_floor, key in zip(logits.float().numpy(), floors, keys, strict=True)
    ]


def likeliest(logits: Tensor) -> list[int]:
    """The argmax of every row of logits [r, V].

    On the CPU by numpy, row by row: for 152k tokens 9 µs in float32 and 20 µs in bfloat16, where
    torch's takes 90 and 520.
    """
    if logits.device.type != "cpu":
        return _ints(logits.argmax(-1))
    return [int(row.float().numpy().argmax()) for row in logits]


class GreedyDraws:
    """Draws at temperature 0 from logits [n, V], root first; see verify.Draws.

    On the CPU a row is looked at when it is asked for: verification visits few of a tree's nodes.
    Elsewhere give `best`, every row's argmax: each transfer costs a wait.
    """

    def __init__(self, logits: Tensor, best: Sequence[int] | None = None) -> None:
        self._logits, self._best = logits, best

    def __call__(self, node: int) -> int:
        if self._best is not None:
            return self._best[node + 1]
        return likeliest(self._logits[node + 1 : node + 2])[0]

    def chances(self, node: int, tokens: list[int]) -> list[float]:
        best = self(node)
        return [float(token == best) for token in tokens]

    def accepts(self, node: int, trial: int, chance: float) -> bool:
        return chance >= 1.0

    def redraw(self, node: int, tokens: list[int], chances: list[float]) -> int:
        return self(node)


class SampledDraws:
    """Draws of one verified tree, at a temperature; see verify.Draws.

    `logits` [n, V], root first; `root_position` is the root's; parents as in DraftTree. On CPU a
    row is drawn when asked for; elsewhere all are drawn at once, as each transfer costs a wait.
    """

    def __init__(
        self,
        logits: Tensor,
        root_position: int,
        parents: Sequence[int],
        options: SamplingOptions,
    ) -> None:
        self.logits, self.options = logits, options
        self.positions = [root_position + 1]
        for parent in parents:
            self.positions.append(self.positions[parent + 1] + 1)
        is_lazy = logits.device.type == "cpu"
        self._drawn = None if is_lazy else draw(logits, self.positions, options)
        # Of the nodes whose chances were asked for: kept logits / temperature, and their logsumexp.
        self._scaled: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, node: int) -> int:
        row = node + 1
        if self._drawn is not None:
            return self._drawn[row]
        return draw(self.logits[row : row + 1], self.positions[row : row + 1], self.options)[0]

    def chances(self, node: int, tokens: list[int]) -> list[float]:
        """One pass over the row, in float64."""
        scaled, total = self._row(node)
        found: list[float] = (scaled[tokens] - total).exp().tolist()
        return found

    def accepts(self, node: int, trial: int, chance: float) -> bool:
        key = _mixed(_key(self.options.seed, self.positions[node + 1]) ^ COIN)
        bits = _mixed(key + GOLDEN * (trial + 1)) >> 12
        return (bits + 0.5) * 2.0**-52 < chance

    def redraw(self, node: int, tokens: list[int], chances: list[float]) -> int:
        """With the noise of the position, as a call has it."""
        scaled, total = self._row(node)
        masses = torch.tensor(chances, dtype=torch.float64, device=scaled.device)
        scaled = scaled.clone()
        scaled[tokens] = masses.log() + total
        key = _key(self.options.seed, self.positions[node + 1])
        if scaled.device.type != "cpu":
            return _draw_batch(scaled[None], [key], None, 1.0)[0]
        return draw_row(scaled.float().numpy(), 1.0, -math.inf, key)

    def _row(self, node: int) -> tuple[Tensor, Tensor]:
        if node not in self._scaled:
            row = self.logits[node + 1 : node + 2]
            scaled = row.double() / self.options.temperature
            if (floor := _floor(row, self.options)) is not None:
                scaled = scaled.masked_fill(row < floor, -math.inf)
            self._scaled[node] = scaled[0], scaled[0].logsumexp(-1)
        return self._scaled[node]


def _draw_batch(
    logits: Tensor, keys: Sequence[int], floor: Tensor | None, temperature: float
) -> list[int]:
    score = logits.double().div_(temperature)
    if floor is not None:
        score.masked_fill_(logits < floor, -math.inf)
    key = torch.tensor(keys, device=logits.device)[:, None]
    return _ints(score.add_(_gumbel(_counters(logits.shape[1], logits.device) + key)).argmax(-1))


def _floor(logits: Tensor, options: SamplingOptions) -> Tensor | None:
    """[r, 1]: the least logit that top-k and top-p keep, or None if both keep all."""
    vocab_size = logits.shape[1]
    has_top_k = 0 < options.top_k < vocab_size
    if not has_top_k and options.top_p == 1:
        return None
    width = options.top_k if has_top_k else min(TOP_P_TOKENS_FIRST, vocab_size)
    values = logits.topk(width).values
    if options.top_p == 1:
        return values[:, -1:]
    scaled = logits.double().div_(options.temperature)
    if has_top_k:
        scaled.masked_fill_(logits < values[:, -1:], -math.inf)
    total = scaled.logsumexp(-1, keepdim=True)
    while True:
        mass = (values.double().div_(options.temperature) - total).exp_()
        needed = ((mass.cumsum(-1) - mass) < options.top_p).sum(-1, keepdim=True).clamp_(1)
        if has_top_k or width == vocab_size or int(needed.max()) < width:
            return values.gather(1, needed - 1)
        width = min(width * 8, vocab_size)
        values = logits.topk(width).values


@lru_cache(maxsize=4)
def _counters(vocab_size: int, device: torch.device) -> Tensor:
    """int64[V]: SplitMix64's state increments for every token id."""
    with torch.inference_mode(False):
        return torch.arange(1, vocab_size + 1, device=device).mul_(_signed(GOLDEN))


def _gumbel(state: Tensor) -> Tensor:
    """Standard Gumbel noise, float64, from SplitMix64 states; overwrites them.

    Arithmetic shifts are masked to logical ones. 52 bits make u, strictly between 0 and 1; small u
    gives large noise, so the deciding tail has full relative precision.
    """
    state.bitwise_xor_((state >> 30).bitwise_and_((1 << 34) - 1)).mul_(_signed(MIX_1))
    state.bitwise_xor_((state >> 27).bitwise_and_((1 << 37) - 1)).mul_(_signed(MIX_2))
    state.bitwise_xor_((state >> 31).bitwise_and_((1 << 33) - 1))
    u = (state >> 12).bitwise_and_((1 << 52) - 1).double().add_(0.5).mul_(2.0**-52)
    return u.neg_().log1p_().neg_().log_().neg_()


def _key(seed: int, position: int) -> int:
    return _signed(_mixed(_mixed(seed) + GOLDEN * (position + 1)))


def _mixed(value: int) -> int:
    mask = SEED_MAX
    value &= mask
    value = ((value ^ (value >> 30)) * MIX_1) & mask
    value = ((value ^ (value >> 27)) * MIX_2) & mask
    return value ^ (value >> 31)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _ints(tensor: Tensor) -> list[int]:
    values: list[int] = tensor.tolist()
    return values
