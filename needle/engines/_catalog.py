"""What a server says it serves: its list of models, and whether it is Ollama."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from needle.engines._server import Server, ServerError
from needle.errors import UsageError

_NOT_THERE = {400, 404, 405, 422, 500, 501}
"""Statuses of servers without a list of models; `transformers serve` fails (500) where there is no hub cache."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """`names` are the models that the server lists, `served` what tells the asked one from another one.

    `longest` is the context length in tokens that the server says it takes; `ollama` Ollama's version if it is one.
    """

    names: tuple[str, ...]
    served: str
    longest: int | None = None
    ollama: str | None = None


def read(server: Server, model: str) -> Catalog:
    """The server's catalog, as far as it concerns `model`.

    Raises:
        UsageError: the server is out of reach, refuses the key, or is an Ollama without the model.
    """
    ollama = _ollama(server)
    try:
        rows = server.get("/models", _rows, retries=1)
    except ServerError as error:
        if error.status not in _NOT_THERE:
            raise unusable(server, error) from None
        rows = []
    if ollama is not None:
        return _of_ollama(server, model, ollama, rows)
    names = tuple(str(row["id"]) for row in rows)
    row = next((r for r in rows if r["id"] == model), rows[0] if len(rows) == 1 else {})
    # vLLM gives the folder or hub id behind a served name, and the length that it was started with.
    served = " ".join(dict.fromkeys(str(row[k]) for k in ("id", "root") if row.get(k))) or model
    longest = row.get("max_model_len")
    return Catalog(names, served, longest if isinstance(longest, int) and longest > 0 else None)


def unusable(server: Server, error: ServerError) -> UsageError:
    """The error that ends a run before it began, with the remedy that fits."""
    remedies = {401: "set NEEDLE_API_KEY", 403: "set NEEDLE_API_KEY to a key that may use this model"}
    remedies |= dict.fromkeys((400, 404, 422), "see --model, --base-url and --api")
    remedy = remedies.get(error.status or 0, "see that the server is up and --base-url is right")
    return UsageError(f"server {server.address}: {error}; {remedy}")


def _rows(data: Any) -> list[dict[str, Any]]:
    """The entries of a list of models that have an id."""
    rows = data.get("data") if isinstance(data, dict) else data
    if not isinstance(rows, list):
        return []
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]


def _ollama(server: Server) -> str | None:
    """Ollama's version, if that is what runs there."""
    try:
        return server.get(f"{server.root}/api/version", _version, retries=0)
    except ServerError:
        # Whatever is the matter, the list of models is asked for next, and tells it in full.
        return None


def _version(data: Any) -> str | None:
    version = data.get("version") if isinstance(data, dict) else None
    return version if isinstance(version, str) else None


def _of_ollama(server: Server, model: str, version: str, rows: list[dict[str, Any]]) -> Catalog:
    """The digest of the model's weights and its trained context length, from Ollama's own API."""
    try:
        about = server.post(f"{server.root}/api/show", {"model": model}, _info)
        digests = server.get(f"{server.root}/api/tags", _digests)
    except ServerError as error:
        if error.status == 404:
            raise UsageError(f"Ollama at {server.address} has no model '{model}'; run: ollama pull {model}") from None
        raise unusable(server, error) from None
    longest = next((v for k, v in about.items() if k.endswith(".context_length") and isinstance(v, int)), None)
    digest = digests.get(model) or digests.get(f"{model}:latest")
    names = tuple(str(row["id"]) for row in rows) or tuple(digests)
    return Catalog(names, f"{model} {digest}" if digest else model, longest, version)


def _info(data: Any) -> dict[str, Any]:
    info = data.get("model_info") if isinstance(data, dict) else None
    return info if isinstance(info, dict) else {}


def _digests(data: Any) -> dict[str, str]:
    rows = data.get("models") if isinstance(data, dict) else None
    return {str(r.get("name")): str(r.get("digest")) for r in rows or [] if isinstance(r, dict) and r.get("digest")}
