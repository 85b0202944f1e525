"""The measure: an empty FastAPI endpoint with a pydantic body, on the same server."""

import sys

from fastapi import FastAPI
from pydantic import BaseModel

from otpseal.http.server import bind, run, url_of


class SubmittedCode(BaseModel):
    """The body of the real call."""

    code: str


app = FastAPI()


@app.post("/verify-2fa")
async def verify(submitted: SubmittedCode) -> dict[str, bool]:
    """Do nothing."""
    return {"valid": len(submitted.code) == 0}


if __name__ == "__main__":
    listener = bind("127.0.0.1", int(sys.argv[1]))
    run(app, listener, on_ready=lambda: print(f"ready on {url_of(listener)}"))
