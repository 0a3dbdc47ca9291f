"""`retrieval-draft bench vllm`."""

from contextlib import ExitStack

import click
import msgspec

from retrieval_draft.cli.output import err, out, print_table
from retrieval_draft.errors import InvalidInput


@click.command()
@click.option("--prompts", default=16, show_default=True, help="Held-back files, 2 to 24.")
@click.option("--tokens", default=128, show_default=True, help="Decoded of each.")
@click.option("--rounds", default=5, show_default=True, help="Of every arm, in turn.")
@click.option("--draft-tokens", default="8,16", show_default=True, metavar="NUMBERS")
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone, without tables.")
def vllm(prompts: int, tokens: int, rounds: int, draft_tokens: str, as_json: bool) -> None:
    """Inside vLLM, on this CPU: no drafts, its ngram and suffix, and ours through both transports.

    Runs in the environment of `make vllm-env`. The demo model continues Python files that it never saw;
    the V1 runner, no async scheduling, one thread; arms take turns of 12 steps. Lengths and times are
    medians over rounds, ratios are of all rounds together. By CPU time arms can be compared on a busy
    machine too. Every arm starts having learned nothing. The last line is one JSON document.
    """
    from retrieval_draft.cli.options import numbers_of
    from retrieval_draft.gpu.demo.prompts import shipped
    from retrieval_draft.replay.vllm_arms import DEFAULT, PLAIN, SUFFIX
    from retrieval_draft.replay.vllm_bench import (
        ARMS,
        IN_PROCESS,
        SAMPLES,
        SEQUENCES_MAX,
        Bench,
        Race,
        Workload,
        sidecar,
    )
    from retrieval_draft.tokenizer import demo_folder, load_tokenizer

    for name, value, most in (("--prompts", prompts, 24), ("--tokens", tokens, 512)):
        if not 2 <= value <= most:
            raise InvalidInput(name, value, f"2 to {most}")
    if rounds < 1:
        raise InvalidInput("--rounds", rounds, "1 or more")
    lengths = numbers_of("--draft-tokens", draft_tokens)
    tokenizer = load_tokenizer("demo")
    texts = [tokenizer.encode(text).ids for text in shipped()[:prompts]]
    races: list[Race] = []
    with ExitStack() as stack:
        running = stack.enter_context(sidecar())
        warming = [tokenizer.encode(text).ids for text in shipped()[-SEQUENCES_MAX:]]
        bench = Bench(demo_folder(), running, warming, lambda text: err().print(text))
        stack.callback(bench.close)
        first = [(arm, lengths[0]) for arm in ARMS]
        together = Workload(texts, tokens, SEQUENCES_MAX)
        races.append(bench.race(first, together, rounds))
        races.append(bench.race(first, Workload(texts, tokens, 1), rounds))
        some = [one for one in first if one[0] in (PLAIN, SUFFIX, IN_PROCESS)]
        sampled = Workload(texts[::SAMPLES], tokens, SEQUENCES_MAX, SAMPLES)
        races.append(bench.race(some, sampled, rounds))
        for more in lengths[1:]:
            races.append(bench.race([(SUFFIX, more), (IN_PROCESS, more)], together, rounds))
        try:
            races.append(bench.race([(DEFAULT, 0)], together, rounds))
        except Exception as error:  # vLLM's other runner need not run on every machine
            err().print(f"default vLLM does not run here: {error}")
        shared = [one for most in lengths for one in bench.sharing(texts, tokens, most)]
    arms = [one for race in races for one in race.arms]
    ratios = [one for race in races for one in race.ratios]
    greedy = {one.concurrency: set[str]() for one in arms}
    for one in arms:
        if one.samples == 1:
            greedy[one.concurrency].add(one.digest)
    equal = all(len(digests) == 1 for digests in greedy.values())
    if not as_json:
        print_table(
            f"vLLM on this CPU, {len(texts)} prompts, {tokens} tokens of each",
            (
                *(
                    "arm",
                    "draft tokens",
                    "at once",
                    "samples",
                    "tokens/s",
                    "by CPU time",
                    "accepted length",
                    "MAT",
                ),
                *("added p50", "added p99", "sidecar's CPU", "rounds"),
            ),
            [
                (
                    one.arm,
                    str(one.tokens_max or ""),
                    str(one.concurrency),
                    str(one.samples),
                    f"{one.tokens_per_second:.0f}",
                    f"{one.tokens_per_cpu_second:.0f}",
                    f"{one.accepted_length:.3f}" if one.drafts else "",
                    f"{one.mat:.3f}",
                    f"{one.added_us_p50:.0f} us" if one.added_us_p50 else "",
                    f"{one.added_us_p99:.0f} us" if one.added_us_p99 else "",
                    f"{one.sidecar_cpu_share:.0%}" if one.sidecar_cpu_share else "",
                    str(one.rounds),
                )
                for one in arms
            ],
            out(),
        )
        print_table(
            "tokens per second against each other, in turns of 12 steps, all rounds together",
            ("arm", "over", "draft tokens", "at once", "samples", "by the clock", "by CPU time"),
            [
                (
                    one.arm,
                    one.over,
                    str(one.tokens_max),
                    str(one.concurrency),
                    str(one.samples),
                    f"{one.by_clock:.3f}",
                    f"{one.by_cpu:.3f}",
                )
                for one in ratios
            ],
            out(),
            text_columns=2,
        )
        print_table(
            "B on one half of the prompts, after process A has decoded the other: accepted length",
            (
                *("through", "draft tokens", "suffix", "ours alone", "ours after A"),
                *("after A / suffix", "the same of MAT"),
            ),
            [
                (
                    one.through,
                    str(one.tokens_max),
                    f"{one.suffix:.3f}",
                    f"{one.alone:.3f}",
                    f"{one.after:.3f}",
                    f"{one.after / one.suffix:.3f}",
                    f"{one.after_mat / one.suffix_mat:.3f}",
                )
                for one in shared
            ],
            out(),
        )
        out().print(f"greedy outputs are {'equal' if equal else 'NOT EQUAL'} over all arms")
    equal = equal and all(one.digests_equal for one in shared)
    document = {"arms": arms, "ratios": ratios, "sharing": shared, "greedy_equal": equal}
    click.echo(msgspec.json.encode(document))
