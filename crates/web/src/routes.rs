//! Every route, one table.

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use vault::Vault;

use crate::app::{App, WebOptions};
use crate::edge::Edge;
use crate::error::{Failure, HttpRefusal};
use crate::{
    assets, authorize, connect, discovery, health, login, logout, management, me, token, userinfo,
};

/// The whole web side over one vault.
pub fn router(vault: Vault, options: WebOptions) -> Router {
    let app = Arc::new(App::new(vault, options));
    Router::new()
        // What this issuer is.
        .route("/", get(discovery::home))
        .route(
            "/.well-known/openid-configuration",
            get(discovery::metadata),
        )
        .route(
            "/.well-known/oauth-authorization-server",
            get(discovery::metadata),
        )
        .route("/.well-known/jwks.json", get(discovery::keys))
        // Clients, for themselves and for users.
        .route("/oauth/par", post(token::push_request))
        .route("/oauth/revoke", post(token::revoke))
        .route("/oauth/token", post(token::token))
        .route(
            "/userinfo",
            get(userinfo::userinfo).post(userinfo::userinfo),
        )
        // People, on the way to a client.
        .route("/authorize", get(authorize::query).post(authorize::form))
        .route("/u/consent", get(login::consent_page).post(login::consent))
        .route("/u/login", get(login::login_page).post(login::login))
        .route("/u/signup", get(login::sign_up_page).post(login::sign_up))
        .route("/oidc/logout", get(logout::oidc).post(logout::confirm))
        .route("/v2/logout", get(logout::v2))
        // People, connecting an account.
        .route(
            "/connected-accounts/connect",
            get(connect::open).post(connect::decide),
        )
        .route("/connected-accounts/login", post(connect::login))
        .route("/connect/callback/{context}", get(connect::callback))
        // A user's own accounts, through a client.
        .route("/me/v1/connected-accounts/accounts", get(me::accounts))
        .route(
            "/me/v1/connected-accounts/accounts/{id}",
            delete(me::disconnect).patch(me::label),
        )
        .route("/me/v1/connected-accounts/complete", post(me::complete))
        .route("/me/v1/connected-accounts/connect", post(me::connect))
        .route(
            "/me/v1/connected-accounts/connections",
            get(me::connections),
        )
        // Administrators.
        .nest(management::BASE, management::router(&app))
        // Machines that watch, and the files of the pages.
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/assets/form-post.js", get(assets::form_post))
        .route("/assets/mark.svg", get(assets::mark))
        .route("/assets/style.css", get(assets::style))
        .fallback(|| async { Failure::from(HttpRefusal::NotFound) })
        .layer(Edge(Arc::clone(&app)))
        .with_state(app)
}
