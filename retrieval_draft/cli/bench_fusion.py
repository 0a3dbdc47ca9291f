"""`retrieval-draft bench fusion`."""

import click
import msgspec

from retrieval_draft.cli.output import out, print_table, progress


@click.command()
@click.option("--model", metavar="PATH_OR_ID", help="A folder, or a hub id.  [default: the demo's]")
@click.option(
    "--draft-model",
    default="demo",
    show_default=True,
    metavar="MODEL",
    help="As `worker` takes it: a folder, a hub id, `demo`, `self:N`.",
)
@click.option("--draft-depth-max", default=5, show_default=True, help="Levels of its trees.")
@click.option("--draft-children-max", default=4, show_default=True, help="Nodes a level expands.")
@click.option(
    "--temperatures", default="0,0.7", show_default=True, metavar="NUMBERS", help="0 is greedy."
)
@click.option(
    "--nodes", default="16", show_default=True, metavar="NUMBERS", help="Nodes per tree at most."
)
@click.option("--prompts", default=12, show_default=True, help="Of the demo's.")
@click.option("--tokens-max", default=96, show_default=True, help="Tokens per output.")
@click.option("--slots", default=4, show_default=True, help="Sequences decoded at once.")
@click.option("--json", "as_json", is_flag=True, help="The JSON line alone, without the table.")
def fusion(
    model: str | None,
    draft_model: str,
    draft_depth_max: int,
    draft_children_max: int,
    temperatures: str,
    nodes: str,
    prompts: int,
    tokens_max: int,
    slots: int,
    as_json: bool,
) -> None:
    """Retrieval, a draft model, and both in one tree: MAT at equal nodes.

    Prompt lookup is the peer. Each arm starts from a fresh store; outputs must equal those of plain
    decoding. Last line: one JSON document.

    \b
    Examples:
      retrieval-draft bench fusion
      retrieval-draft bench fusion --draft-model self:3 --nodes 8,16,32
    """
    from retrieval_draft.cli.worker import open_model
    from retrieval_draft.gpu.demo.prompts import shipped
    from retrieval_draft.gpu.draft_models.causal import CausalDrafts
    from retrieval_draft.gpu.draft_models.opening import open_draft_model
    from retrieval_draft.gpu.fusion_bench import ARMS, FUSIONS, compared
    from retrieval_draft.gpu.tokenizer import load_tokenizer
    from retrieval_draft.tree import int32s

    warm, counts = _numbers("--temperatures", temperatures, 0.0), _numbers("--nodes", nodes, 1.0)
    target = open_model(model, model is None, "float32", "cpu", 1)
    tokenizer = load_tokenizer(target.name)
    texts = [int32s(tokenizer.encode(text).ids) for text in shipped()[:prompts]]

    def new_model() -> CausalDrafts:
        return open_draft_model(
            draft_model,
            target,
            slots=slots,
            length_max=max(map(len, texts)) + tokens_max,
            tokenizer=tokenizer,
            depth_max=draft_depth_max,
            children_max=draft_children_max,
        )

    with progress() as bar:
        task = bar.add_task("decoding", total=len(warm) * (1 + len(counts) * len(ARMS)))
        found = compared(
            target,
            new_model,
            texts,
            temperatures=warm,
            nodes=[int(count) for count in counts],
            tokens_max=tokens_max,
            slots=slots,
            advance=lambda: bar.advance(task),
        )
    alone = {
        (one.temperature, one.nodes): max(
            other.mat
            for other in found
            if other.arm not in FUSIONS
            and (other.temperature, other.nodes) == (one.temperature, one.nodes)
        )
        for one in found
    }
    if not as_json:
        print_table(
            f"{draft_model} drafting for {'demo' if model is None else model}, "
            f"{len(texts)} prompts x {tokens_max} tokens",
            ("temperature", "nodes", "arm", "MAT", "drafted", "to the better alone", "identical"),
            [
                (
                    f"{one.temperature:g}",
                    str(one.nodes),
                    one.arm,
                    f"{one.mat:.3f}",
                    f"{one.drafted:.1f}",
                    f"{one.mat / alone[one.temperature, one.nodes]:.3f}",
                    "yes" if one.identical else "NO",
                )
                for one in found
            ],
            out(),
        )
    click.echo(msgspec.json.encode(found).decode())
    if not all(one.identical for one in found):
        raise click.ClickException("outputs differ from those of plain decoding")


def _numbers(option: str, text: str, least: float) -> list[float]:
    from retrieval_draft.errors import InvalidInput

    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < least:
        raise InvalidInput(option, text, f"numbers from {least:g}, separated by commas")
    return numbers
