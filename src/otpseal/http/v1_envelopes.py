"""The v1 API's calls about seeds whose sender is known, and their receipts."""

from otpseal import base64url
from otpseal.access import Scope
from otpseal.accounts import AccountBook
from otpseal.envelopes import EnvelopeImporter
from otpseal.http.limits import WorkQueue
from otpseal.http.v1 import Call, Handler, Routes
from otpseal.http.v1_accounts import shown
from otpseal.http.v1_fields import Fields
from otpseal.http.wire import Answer, json_answer
from otpseal.signed_envelope import MAX_ENVELOPE_CHARS

#: Bytes of the body: the envelope, and the JSON around it.
MAX_BODY_BYTES = MAX_ENVELOPE_CHARS + 256


class EnvelopeCalls:
    """The two calls.

    Args:
        importer: the use case.
        book: looks at the caller before a decryption is paid for.
        work: runs what waits for the store.
        decryptions: bounds the RSA work.
    """

    def __init__(
        self,
        importer: EnvelopeImporter,
        book: AccountBook,
        *,
        work: WorkQueue,
        decryptions: WorkQueue,
    ) -> None:
        self._importer = importer
        self._book = book
        self._work = work
        self._decryptions = decryptions
        self.paths: Routes = {"/v1/envelopes": {"POST": self.bring}}
        self.receipts: dict[str, Handler] = {"GET": self.recall}

    async def bring(self, call: Call) -> Answer:
        """`POST /v1/envelopes {"envelope"}`: make an account, or renew its seed."""
        # Before the body is read: it is four times as long as any other.
        credential = call.credential
        await self._work.run(self._book.authorize, credential, Scope.IMPORT)
        fields = Fields(await call.body(max_bytes=MAX_BODY_BYTES))
        envelope = fields.text("envelope")
        fields.end()

        def bring() -> Answer:
            brought = self._importer.bring(envelope, credential=credential)
            content = {
                "account": shown(brought.row),
                "new": brought.is_new,
                "authority": brought.authority,
                "suite": brought.suite,
                "receipt": brought.receipt,
            }
            return json_answer(content)

        return await self._decryptions.run(bring)

    async def recall(self, call: Call) -> Answer:
        """`GET /v1/receipts/{digest}`: what an answer said that was lost."""
        digest = _digest(call.named)

        def recall() -> Answer:
            found = self._importer.recall(digest, credential=call.credential)
            content = {
                "account": found.account,
                "authority": found.authority,
                "receipt": found.receipt,
                # Else whoever passes it on would confirm a seed that is gone.
                "has_seed": found.has_seed,
            }
            return json_answer(content)

        return await self._work.run(recall)


def _digest(text: str) -> bytes:
    """Return the digest of a path; what is none is no envelope's, nor any shorter."""
    try:
        return base64url.decode(text)
    except ValueError:
        return b""
