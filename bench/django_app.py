"""The other way: a view with django-otp, on the same SQLite settings, by gunicorn.

What an application's own view would do: find the user's device, and have it verify
the token in one transaction (`django_otp.verify_token` does). Throttling is on, with a
factor so small that no attempt is refused unseen: each wrong token is looked at and
counted durably, as on our side. No middleware, no session, no login, no audit log.

    django_app.py PORT DIRECTORY      serve; says `ready on URL`
    django_app.py fill DIRECTORY N    make the database with N users
"""

import json
import secrets
import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, JsonResponse
from django.urls import path

_PRAGMAS = (
    "PRAGMA journal_mode = PERSIST; PRAGMA journal_size_limit = 1048576;"
    " PRAGMA synchronous = FULL"
)


def verify(request: HttpRequest) -> JsonResponse:
    """`POST /verify {"account", "code"}`."""
    from django_otp import verify_token
    from django_otp.plugins.otp_totp.models import TOTPDevice

    body = json.loads(request.body)
    device = TOTPDevice.objects.select_related("user").get(
        user__username=body["account"], confirmed=True
    )
    found = verify_token(device.user, device.persistent_id, body["code"])
    return JsonResponse({"valid": found is not None})


urlpatterns = [path("verify", verify)]


def configure(directory: Path) -> None:
    """Set Django up; SQLite as otpseal has it."""
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": directory / "django.db",
                "CONN_MAX_AGE": None,
                "OPTIONS": {
                    "transaction_mode": "IMMEDIATE",
                    "init_command": _PRAGMAS,
                    "timeout": 30,
                },
            }
        },
        DEBUG=False,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django_otp",
            "django_otp.plugins.otp_totp",
        ],
        LOGGING_CONFIG=None,
        MIDDLEWARE=[],
        OTP_TOTP_THROTTLE_FACTOR=1e-300,
        ROOT_URLCONF="django_app",
        SECRET_KEY=secrets.token_hex(),
        USE_TZ=True,
    )
    django.setup()


def fill(count: int) -> None:
    """Make the database, its users and a device for each."""
    from django.contrib.auth.models import User
    from django_otp.plugins.otp_totp.models import TOTPDevice

    call_command("migrate", verbosity=0)
    users = [User(username=f"b{i:07d}", password="!") for i in range(count)]
    User.objects.bulk_create(users)
    TOTPDevice.objects.bulk_create(
        TOTPDevice(user=user, name="app", key=secrets.token_hex(20), confirmed=True)
        for user in User.objects.order_by("id")
    )


def serve(port: int, threads: int) -> None:
    """Run gunicorn with one worker process until it is asked to stop."""
    from django.core.wsgi import get_wsgi_application
    from gunicorn.app.base import BaseApplication

    def ready(server: Any) -> None:  # noqa: ANN401 - gunicorn has no types
        host, bound = server.LISTENERS[0].sock.getsockname()
        print(f"ready on http://{host}:{bound}", flush=True)

    class Application(BaseApplication):  # type: ignore[misc] # no types
        def load_config(self) -> None:
            self.cfg.set("bind", f"127.0.0.1:{port}")
            self.cfg.set("workers", 1)
            self.cfg.set("loglevel", "error")
            if threads > 1:
                self.cfg.set("worker_class", "gthread")
                self.cfg.set("threads", threads)
            self.cfg.set("when_ready", ready)

        def load(self) -> Any:  # noqa: ANN401 - a WSGI application
            return get_wsgi_application()

    Application().run()


if __name__ == "__main__":
    # As the URLconf names it, or it would be loaded twice.
    sys.modules["django_app"] = sys.modules["__main__"]
    configure(Path(sys.argv[2]))
    if sys.argv[1] == "fill":
        fill(int(sys.argv[3]))
    else:
        serve(int(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else 4)
