"""django-oauth-toolkit as a provider: OAuth 2.0 with refresh tokens that rotate and a grace period.

    python provider.py serve               what the environment says, until it is ended
    python provider.py revoke USERNAME     the person takes every grant back

Environment: PROVIDER_FOLDER (of its database), PROVIDER_PORT, PROVIDER_CLIENT_ID, PROVIDER_CLIENT_SECRET,
PROVIDER_REDIRECT_URI, PROVIDER_ACCESS_SECONDS, PROVIDER_GRACE_SECONDS. Everybody is let in: who logs in with a name
that nobody has gets an account.
"""

import os
import secrets
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application


def environment(name):
    return os.environ["PROVIDER_" + name]


settings.configure(
    SECRET_KEY=secrets.token_urlsafe(48),
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": Path(environment("FOLDER")) / "provider.sqlite3",
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    # Sessions outlive the process's secret in no test.
    SESSION_ENGINE="django.contrib.sessions.backends.db",
    AUTHENTICATION_BACKENDS=[__name__ + ".Everybody"],
    LOGIN_URL="/admin/login/",
    USE_TZ=True,
    STATIC_URL="/static/",
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": int(environment("ACCESS_SECONDS")),
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": int(environment("GRACE_SECONDS")),
        "REFRESH_TOKEN_EXPIRE_SECONDS": 3600,
        "ROTATE_REFRESH_TOKEN": True,
        "PKCE_REQUIRED": True,
        "ALLOWED_REDIRECT_URI_SCHEMES": ["https"],
        "SCOPES": {"profile": "Who you are", "files": "Your files"},
    },
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.auth.backends import ModelBackend  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.decorators import protected_resource  # noqa: E402
from oauth2_provider.models import get_access_token_model, get_application_model, get_refresh_token_model  # noqa: E402


class Everybody(ModelBackend):
    """The login page is the admin's, which wants staff."""

    def authenticate(self, request, username=None, password=None, **kwargs):
        user, _ = get_user_model().objects.get_or_create(
            username=username, defaults={"is_staff": True, "email": f"{username}@django.example"}
        )
        return user


@protected_resource(scopes=["profile"])
def me(request):
    user = request.resource_owner
    return JsonResponse({"id": user.pk, "username": user.username, "email": user.email})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("me", me),
]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


def serve():
    call_command("migrate", verbosity=0)
    application = get_application_model()
    application.objects.create(
        name="The vault",
        client_id=environment("CLIENT_ID"),
        client_secret=environment("CLIENT_SECRET"),
        client_type=application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=application.GRANT_AUTHORIZATION_CODE,
        redirect_uris=environment("REDIRECT_URI"),
    )
    server = make_server("localhost", int(environment("PORT")), get_wsgi_application(), Server, Quiet)
    print("listening", flush=True)
    server.serve_forever()


def revoke(username):
    for token in get_refresh_token_model().objects.filter(user__username=username, revoked__isnull=True):
        token.revoke()
    get_access_token_model().objects.filter(user__username=username).delete()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    elif sys.argv[1:2] == ["revoke"] and len(sys.argv) == 3:
        revoke(sys.argv[2])
    else:
        sys.exit(__doc__)
