"""`retrieval-draft serve`."""

from pathlib import Path

import click

from retrieval_draft.cli import options
from retrieval_draft.cli.output import FIRST_START, said_if_slow

PEM = click.Path(dir_okay=False, path_type=Path)


@click.command()
@options.listen
@options.data
@click.option(
    "--redis",
    default="",
    metavar="URL",
    help="Your Redis: redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster:// "
    "(docs/redis.md); `none` keeps everything in memory.  "
    "[default: a private server in the data folder]",
)
@options.redis_files
@click.option(
    "--blocks",
    default="",
    metavar="URL",
    help="Where snapshots and segments lie: a folder, or any fsspec URL such as s3://BUCKET/FOLDER, "
    "of this Redis alone.  [default: the data folder, or your Redis up to 1 GiB a namespace]",
)
@click.option(
    "--nodes-max", default=32, show_default=True, help="Nodes per tree where a request says none."
)
@options.method
@click.option(
    "--stand-tree",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The static tree of `stand`, as `tree optimise` writes it.  [default: the one that ships]",
)
@click.option(
    "--dense",
    type=click.Choice(("off", "tokens", "hidden")),
    default="off",
    show_default=True,
    help="Also draft what followed similar contexts, by their tokens or the worker's hidden states.",
)
@click.option(
    "--dense-index",
    type=click.Choice(("auto", "flat", "ivf", "hnsw")),
    default="auto",
    show_default=True,
    help="Of dense retrieval; auto: exact up to 100,000 contexts, then inverted lists.",
)
@click.option(
    "--tenants",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Who may use what, as `tenant add` writes it.  [default: every caller is tenant `local`]",
)
@click.option("--tls-cert", type=PEM, metavar="FILE", help="Serve ports by TLS, with --tls-key.")
@click.option("--tls-key", type=PEM, metavar="FILE", help="The key of --tls-cert.")
@click.option(
    "--tls-ca", type=PEM, metavar="FILE", help="Clients must show a certificate of this CA."
)
@click.option(
    "--pad-drafts",
    is_flag=True,
    help="Fill answers to a power of two of bytes: their sizes tell less over a network.",
)
@click.option(
    "--web",
    default="",
    metavar="HOST:PORT",
    help="Also serve the dashboard there, and /metrics; with --tenants it asks for a token.",
)
@click.option(
    "--show-tokens",
    default="",
    metavar="TOKENIZER",
    help="Let the dashboard show recent output as text: tokenizer.json, a model's folder, or `demo`.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Allow addresses that others can reach, without TLS or authentication.",
)
@click.option(
    "--log-level",
    type=click.Choice(("DEBUG", "INFO", "WARNING", "ERROR")),
    default="INFO",
    show_default=True,
)
@click.option(
    "--sample-tokens",
    default=1 << 17,
    show_default=True,
    type=click.IntRange(0, 1 << 24),
    metavar="N",
    help="Of each namespace's newest sequences, kept in memory for `advise`; 0 keeps none. Of all "
    "namespaces together 16777216: the oldest make way.",
)
@click.option(
    "--otel",
    is_flag=True,
    help="Send a span of every call and step by OTLP, where OTEL_EXPORTER_OTLP_ENDPOINT says.",
)
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="json: one object a line, with time, level, logger and message; never a token.",
)
def serve(
    listen: tuple[str, ...],
    data: Path | None,
    redis: str,
    blocks: str,
    nodes_max: int,
    method: str,
    stand_tree: Path | None,
    dense: str,
    dense_index: str,
    tenants: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    pad_drafts: bool,
    web: str,
    show_tokens: str,
    insecure: bool,
    log_level: str,
    sample_tokens: int,
    otel: bool,
    log_format: str,
    **redis_files: Path | None,
) -> None:
    """Run the sidecar until SIGTERM.

    Prints one line `serving on TARGET...` on standard output when it is ready. SIGHUP reads the tenants
    and certificates afresh.

    \b
    Examples:
      retrieval-draft serve
      retrieval-draft serve --listen 127.0.0.1:50051 --redis redis://127.0.0.1:6379
      retrieval-draft serve --web 127.0.0.1:8080
      retrieval-draft serve --listen 0.0.0.0:50051 --tenants tenants.toml \\
        --tls-cert server.pem --tls-key server.key
    """
    from retrieval_draft.config import Config
    from retrieval_draft.errors import DraftError, InvalidInput
    from retrieval_draft.logs import to_stderr

    with said_if_slow(FIRST_START):
        from retrieval_draft.server.lifecycle import ServeOptions
        from retrieval_draft.server.lifecycle import serve as run
    from retrieval_draft.server.tls import TlsFiles
    from retrieval_draft.targets import is_loopback

    to_stderr(log_level, log_format)
    config = Config(
        method=method,
        nodes_max=nodes_max,
        stand_tree=stand_tree,
        dense=dense,
        dense_index=dense_index,
        sample_tokens=sample_tokens,
    )
    if not 1 <= nodes_max <= config.nodes_hard_max:
        raise InvalidInput("--nodes-max", nodes_max, f"1 to {config.nodes_hard_max}")

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key are given together")
    if tls_ca is not None and tls_cert is None:
        raise click.UsageError("--tls-ca needs --tls-cert and --tls-key")
    if show_tokens and not web:
        raise click.UsageError("--show-tokens needs --web")
    tls = TlsFiles(tls_cert, tls_key, tls_ca) if tls_cert and tls_key else None
    serving = ServeOptions(
        listen=listen,
        data=data,
        redis=options.redis_url(redis, redis_files),
        blocks=blocks,
        insecure=insecure,
        config=config,
        tenants=tenants,
        tls=tls,
        pad_drafts=pad_drafts,
        traces=otel,
        web=web,
        show_tokens=show_tokens,
    )
    addresses = [*listen, *([web] if web else [])]
    open_to_all = [] if serving.secured else [t for t in addresses if not is_loopback(t)]
    if insecure and open_to_all:
        text = (
            f"INSECURE: whoever can reach {' '.join(open_to_all)} can read and teach what is stored"
        )
        click.secho(text, fg="red", bold=True, err=True)

    def ready(targets: list[str]) -> None:
        click.echo(f"serving on {' '.join(targets)}")

    if not run(serving, ready):
        raise DraftError("stopped, but not everything that was learned could be stored")
