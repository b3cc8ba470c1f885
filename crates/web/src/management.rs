//! The Management API (contract 4): everything that an administrator sets and sees.
//!
//! One table a resource, in the resource's file: each row has the method, the path, the scope, what goes in and what comes
//! out. The router, the check of the scope and the OpenAPI document are all made of these rows, so that they cannot differ.
//! A handler reads its input, calls one flow of the vault, and answers.

mod client_grants;
mod clients;
mod configuration;
mod connections;
mod consents;
mod endpoint;
mod listing;
mod logs;
mod openapi;
mod reference;
mod resource_servers;
mod sessions;
mod signing_keys;
mod stats;
mod tenant_settings;
mod users;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use vault::{Administrator, Caller, Fault, Vault};

use crate::app::App;
use crate::body;
use crate::edge::Notes;
use crate::error::{Failure, HttpRefusal};
use crate::management::endpoint::Endpoint;
use crate::management::reference::ReferencePage;
use crate::page;

/// Below which path the Management API is.
pub(crate) const BASE: &str = "/api/v2";

/// Marks a request that the command line makes in its own process, beside the database and its master key. It cannot come
/// over the network: nothing there puts an extension into a request.
#[derive(Debug, Clone, Copy)]
pub struct LocalAdministrator;

/// Every endpoint, by resource.
fn endpoints() -> Vec<Endpoint> {
    [
        client_grants::endpoints(),
        clients::endpoints(),
        configuration::endpoints(),
        connections::endpoints(),
        consents::endpoints(),
        logs::endpoints(),
        resource_servers::endpoints(),
        sessions::endpoints(),
        signing_keys::endpoints(),
        stats::endpoints(),
        tenant_settings::endpoints(),
        users::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The routes of the Management API.
pub(crate) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let issuer = &app.vault.settings().issuer;
    let document = openapi::document(&endpoints(), issuer.origin());
    let page = Arc::new(ReferencePage::new(
        &document,
        format!("{}{BASE}", issuer.origin()),
        issuer.management_audience(),
    ));
    let mut router = Router::new()
        .route(
            "/docs",
            get(async move || page::html(StatusCode::OK, page.as_ref())),
        )
        .route("/openapi.json", get(async move || Json(document)));
    for endpoint in endpoints() {
        let gate = Gate {
            app: Arc::clone(app),
            scope: endpoint.scope,
        };
        let route = endpoint
            .route
            .route_layer(middleware::from_fn_with_state(gate, pass));
        router = router.route(endpoint.path, route);
    }
    router
}

/// What stands before an endpoint.
#[derive(Clone)]
struct Gate {
    app: Arc<App>,
    scope: &'static str,
}

/// Lets an administrator with the scope through, within the limit of requests; nothing of the body was read before.
async fn pass(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let extensions = request.extensions();
    let administrator = if extensions.get::<LocalAdministrator>().is_some() {
        Administrator::local()
    } else {
        let caller = extensions.get::<Caller>().cloned().unwrap_or_default();
        let notes = extensions.get::<Notes>().cloned().unwrap_or_default();
        let vault = &gate.app.vault;
        let token = body::bearer(request.headers())?;
        let administrator = vault
            .authenticate_administrator(token, gate.scope, &caller)
            .await?;
        let client_id = administrator.client_id().unwrap_or_default();
        notes.client(client_id);
        let standing = gate.app.management_limiter.take(client_id, vault.now());
        notes.standing(standing);
        if let Some(wait) = standing.refused_for {
            return Err(HttpRefusal::RateLimited(wait).into());
        }
        administrator
    };
    request.extensions_mut().insert(administrator);
    Ok(next.run(request).await)
}

/// Who asks for a change, of which vault, and how they came.
pub(crate) struct Asker {
    pub(crate) vault: Vault,
    pub(crate) administrator: Administrator,
    pub(crate) caller: Caller,
}

impl FromRequestParts<Arc<App>> for Asker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let administrator = parts.extensions.get::<Administrator>().cloned();
        Ok(Self {
            vault: app.vault.clone(),
            administrator: administrator.ok_or_else(|| {
                vault::Error::from(Fault::Internal("nobody stands at this endpoint".to_owned()))
            })?,
            caller: parts.extensions.get().cloned().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use vault::MANAGEMENT_SCOPES;

    use super::*;

    #[test]
    fn mg_10_every_endpoint_has_a_scope_and_every_scope_an_endpoint() {
        let known: HashSet<&str> = MANAGEMENT_SCOPES.iter().map(|(scope, _)| *scope).collect();
        for endpoint in endpoints() {
            assert!(
                known.contains(endpoint.scope),
                "{} {}",
                endpoint.method,
                endpoint.path
            );
        }
        // These are asked for beside an endpoint's own, where a change is more than an ordinary one.
        let asked_beside = [
            "create:client_token_vault_privileged_access",
            "update:client_token_vault_privileged_access",
        ];
        let used: HashSet<&str> = endpoints()
            .iter()
            .map(|endpoint| endpoint.scope)
            .chain(asked_beside)
            .collect();
        assert_eq!(known, used);
    }

    #[test]
    fn no_endpoint_stands_twice() {
        let mut seen = HashSet::new();
        for endpoint in endpoints() {
            let name = format!("{} {}", endpoint.method, endpoint.path);
            assert!(seen.insert(name.clone()), "{name}");
        }
    }
}
