"""`pipeline search`: as a client does it, hybrid where the question can be embedded."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.panel import Panel

from cli.actor import signed_in, with_minted_token
from cli.common import JsonOption, err, out, print_json, run
from cli.names import readable
from pipeline.errors import JobError, SetupError
from pipeline.settings import Settings, load


def search(
    question: Annotated[str, typer.Argument(help='What to look for; "quoted" must stand so, -word must not.')],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="So many passages at most.")] = 5,
    under: Annotated[
        str | None, typer.Option("--under", help="Only files whose name begins so.", show_default=False)
    ] = None,
    keyword: Annotated[bool, typer.Option("--keyword", help="By words alone, without the model.")] = False,
    as_user: Annotated[
        str | None,
        typer.Option("--as-user", help="As this user, id or address, with the JWT secret.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search the files of the signed-in user, by meaning and by words.

    Example: `pipeline search "When may I cancel the contract?"`
    """
    settings = load()
    hits, reason = run(_search(settings, question, limit, under, keyword, as_user))
    if reason:
        err().print(f"[yellow]By words alone: {escape(reason)}[/]")
    if json:
        print_json({"hits": hits, "hybrid": reason is None and not keyword, "reason": reason})
        return
    if not hits:
        out().print("Nothing found.")
    for hit in hits:
        out().print(hit_panel(hit))


def hit_panel(hit: dict[str, Any]) -> Panel:
    """One hit: where it stands, how well it fits, and the passage."""
    place = f" · page {hit['page']}" if hit["page"] else ""
    heading = f" · {escape(hit['heading'])}" if hit["heading"] else ""
    text = " ".join(hit["content"].split())
    return Panel(
        escape(text if len(text) <= 400 else text[:400] + "…"),
        title=f"[bold]{escape(file_name(hit))}[/]{place}{heading}",
        subtitle=f"{hit['score']:.3f} by {hit['matched_by']}",
        title_align="left",
        subtitle_align="right",
        border_style="dim",
    )


def file_name(hit: dict[str, Any]) -> str:
    """The file's name without its owner's folder, as a person knows it."""
    first, _, rest = hit["name"].partition("/")
    return readable(rest or first)


async def _search(
    settings: Settings, question: str, limit: int, under: str | None, keyword: bool, as_user: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    from postgrest import APIError

    actor = await (with_minted_token(settings, as_user) if as_user else signed_in(settings))
    arguments: dict[str, Any] = {"query_text": question, "match_count": limit}
    if under:
        arguments["path_prefix"] = f"{actor.user_id}/{under.lstrip('/')}"
    reason = None
    if not keyword:
        vector, space, reason = await embed(settings, question)
        if vector is not None:
            try:
                answer = await actor.client.rpc(
                    "search", arguments | {"query_embedding": vector, "space": space}
                ).execute()
                return answer.data, None  # type: ignore[return-value]
            except APIError as error:
                # Another space is active than the one that these settings embed in.
                if not (error.code or "").startswith(("PT400", "22")):
                    raise
                reason = error.message
    answer = await actor.client.rpc("search", arguments).execute()
    return answer.data, reason  # type: ignore[return-value]


async def embed(settings: Settings, question: str) -> tuple[list[float] | None, str, str | None]:
    """The question's vector and space; or no vector and the reason why there is none."""
    from pipeline.app import make_embedder

    try:
        embedder = make_embedder(settings)
    except (SetupError, ImportError) as error:
        return None, "", str(error)
    try:
        return (await embedder.embed([question]))[0].tolist(), embedder.space.name, None
    except (SetupError, JobError) as error:
        return None, "", getattr(error, "detail", "") or str(error)
    finally:
        await embedder.close()
