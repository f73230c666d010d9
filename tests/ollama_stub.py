"""A stub of Ollama, faithful in what matters here. It is no Ollama: none can be installed where the tests run.

By its API documentation (github.com/ollama/ollama, docs/api.md) and the reports of its users: the OpenAI endpoint knows
no `num_ctx` and cuts every prompt to the default context; /api/generate takes `options.num_ctx`, up to what the model
was trained for, and with `raw` applies no template; `truncate: false` refuses what is too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hostile import MODEL, Stub, reply

DEFAULT_CONTEXT = 4096


@dataclass
class Ollama(Stub):
    """Version `version`; `old` releases do not know `truncate`."""

    version: str = "0.13.5"
    trained: int = 32768
    old: bool = False
    digest: str = "sha256:" + "5" * 64

    def get(self, path: str) -> Any:
        if path == "/api/version":
            return {"version": self.version}
        if path == "/api/tags":
            return {"models": [{"name": f"{MODEL}:latest", "digest": self.digest}]}
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": f"{MODEL}:latest", "object": "model"}]}
        return None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if str(body.get("model")).split(":")[0] != MODEL:
            return 404
        if path == "/api/show":
            return {"model_info": {"general.architecture": "qwen2", "qwen2.context_length": self.trained}}
        if path == "/api/generate":
            return self._generate(body)
        self.limit = DEFAULT_CONTEXT
        return super().post(path, body)

    def _generate(self, body: dict[str, Any]) -> Any:
        if not body.get("raw"):
            return 400
        options = body["options"]
        context = min(options.get("num_ctx", DEFAULT_CONTEXT), self.trained)
        tokens = self.count(body["prompt"]) + self.opens_with
        if tokens > context and body.get("truncate") is False and not self.old:
            return 400
        text = reply(body["prompt"], options["num_predict"])
        counts = {"prompt_eval_count": min(tokens, context), "eval_count": 12}
        return {"model": body["model"], "response": text, "done": True, "done_reason": "stop", **counts}
