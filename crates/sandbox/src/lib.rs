//! An OpenID Connect provider that runs on this machine, for `dev`, `demo` and tests; never for production.
//!
//! It does what real providers do, and on request what they should not: rotate refresh tokens in every way there is,
//! answer slowly, wrongly or not at all ([`Behaviour`], also over HTTP at `/sandbox/behaviour`). It counts what it is
//! asked ([`Calls`], `/sandbox/calls`), above all single-use tokens that were presented twice.
//!
//! Beside itself it plays other providers as their vendors document them ([`Fixture`], `/as/NAME`), so that an
//! application can run offline against GitHub that expires or Slack with rotation.

mod behaviour;
mod fixture;
mod page;
mod routes;
mod simulator;
mod state;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use jiff::Timestamp;
use seal::{Algorithm, Entropy, SigningKey};

pub use behaviour::{Behaviour, ExpiresIn, InjectedFailure, Rotation};
pub use fixture::{CallFacts, Expectation, Fixture, RefreshFacts};
pub use simulator::{CLIENT_ID, CLIENT_SECRET};
pub use state::Calls;

use state::State;

/// Tells the time; tests move it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a sandbox is made of.
pub struct SandboxConfig {
    /// The issuer and the address of every endpoint, without a slash at the end.
    pub base_url: String,
    /// The applications that may ask.
    pub clients: Vec<SandboxClient>,
    /// The people that can log in.
    pub accounts: Vec<SandboxAccount>,
    /// How it behaves at first.
    pub behaviour: Behaviour,
    /// Where tokens come from.
    pub entropy: Arc<dyn Entropy>,
    /// The clock.
    pub clock: Clock,
    /// Where grants and tokens are kept over a restart; None: nowhere.
    pub state_file: Option<PathBuf>,
}

/// An application.
#[derive(Debug, Clone)]
pub struct SandboxClient {
    /// Its id.
    pub client_id: String,
    /// Its secret; none for a public client.
    pub client_secret: Option<String>,
    /// Where its users may be sent back, byte for byte.
    pub redirect_uris: Vec<String>,
}

/// A person. The password guards nothing.
#[derive(Debug, Clone)]
pub struct SandboxAccount {
    /// What they log in with.
    pub username: String,
    /// Their password.
    pub password: String,
    /// Their immutable id.
    pub subject: String,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
}

/// A running provider. Cheap to clone; all clones are one provider.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    base_url: String,
    clients: Mutex<Vec<SandboxClient>>,
    accounts: Vec<SandboxAccount>,
    entropy: Arc<dyn Entropy>,
    clock: Clock,
    state_file: Option<PathBuf>,
    signing_key: Option<SigningKey>,
    behaviour: Mutex<Behaviour>,
    state: Mutex<State>,
    simulated: Mutex<HashMap<String, simulator::Simulated>>,
}

impl Sandbox {
    /// Makes a provider and takes up what an earlier one left in the state file.
    pub fn new(config: SandboxConfig) -> Self {
        let state = config
            .state_file
            .as_deref()
            .and_then(|path| std::fs::read(path).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self {
            inner: Arc::new(Inner {
                base_url: config.base_url,
                clients: Mutex::new(config.clients),
                accounts: config.accounts,
                entropy: config.entropy,
                clock: config.clock,
                state_file: config.state_file,
                // Without a key there are no ID tokens, and every flow says so.
                signing_key: SigningKey::generate(Algorithm::Es256).ok(),
                behaviour: Mutex::new(config.behaviour),
                state: Mutex::new(state),
                simulated: Mutex::default(),
            }),
        }
    }

    /// Every page and endpoint.
    pub fn router(&self) -> Router {
        routes::router(self.clone())
    }

    /// The issuer.
    pub fn base_url(&self) -> &str {
        &self.inner.base_url
    }

    /// What was asked so far.
    pub fn calls(&self) -> Calls {
        self.state().calls.clone()
    }

    /// Every access and refresh token that is still known here: what must not show up anywhere else.
    pub fn issued_tokens(&self) -> Vec<String> {
        let state = self.state();
        let access = state.access_tokens.keys();
        let own = access.chain(state.refresh_tokens.keys()).cloned();
        let simulated = lock(&self.inner.simulated);
        own.chain(simulated.values().flat_map(|state| state.tokens()))
            .collect()
    }

    /// The grants of a simulated provider that are not over.
    pub fn simulated_grants(&self, fixture: &str) -> Vec<String> {
        self.simulated(fixture, |state| state.grants())
    }

    /// How often simulated providers refreshed a token.
    pub fn simulated_refreshes(&self, fixture: &str) -> u64 {
        self.simulated(fixture, |state| state.refreshes())
    }

    /// Changes how it behaves from now on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        *lock(&self.inner.behaviour) = behaviour;
    }

    /// How it behaves.
    pub fn behaviour(&self) -> Behaviour {
        lock(&self.inner.behaviour).clone()
    }

    /// Lets a client's users be sent back to one more address.
    pub fn allow_redirect_uri(&self, client_id: &str, redirect_uri: &str) {
        for client in lock(&self.inner.clients).iter_mut() {
            if client.client_id == client_id {
                client.redirect_uris.push(redirect_uri.to_owned());
            }
        }
    }

    /// A grant that a client got before there was a vault: its access token and its refresh token.
    pub fn grant_elsewhere(
        &self,
        client_id: &str,
        subject: &str,
        scopes: &[&str],
    ) -> (String, String) {
        let grant = state::Grant {
            client_id: client_id.to_owned(),
            subject: subject.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            revoked: false,
        };
        routes::grant_elsewhere(self, grant)
    }

    /// Ends every grant, as people do on a provider's page for connected applications.
    pub fn revoke_all_grants(&self) {
        self.change(|state| {
            state
                .grants
                .values_mut()
                .for_each(|grant| grant.revoked = true)
        });
    }

    fn now(&self) -> Timestamp {
        (self.inner.clock)()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.inner.state)
    }

    /// Changes the state and keeps it, where there is a file to keep it in.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let out = change(&mut state);
        if let Some(path) = &self.inner.state_file
            && let Ok(bytes) = serde_json::to_vec(&*state)
            && let Err(error) = std::fs::write(path, bytes)
        {
            tracing::warn!(error = %error, "the sandbox could not keep its state");
        }
        out
    }

    /// Reads or changes what the simulated provider of a name remembers.
    fn simulated<T>(&self, name: &str, change: impl FnOnce(&mut simulator::Simulated) -> T) -> T {
        let mut all = lock(&self.inner.simulated);
        change(all.entry(name.to_owned()).or_default())
    }

    /// Where the simulated provider of a fixture listens: a connection's option `simulator`.
    pub fn simulator_url(&self, fixture: &str) -> String {
        Fixture::find(fixture)
            .map(|fixture| fixture.simulator(&self.inner.base_url))
            .unwrap_or_default()
    }

    fn client(&self, client_id: &str) -> Option<SandboxClient> {
        lock(&self.inner.clients)
            .iter()
            .find(|client| client.client_id == client_id)
            .cloned()
    }

    fn account(&self, subject: &str) -> Option<&SandboxAccount> {
        self.inner
            .accounts
            .iter()
            .find(|account| account.subject == subject)
    }

    /// A new token with a readable prefix.
    fn token(&self, prefix: &str) -> String {
        seal::random_id(self.inner.entropy.as_ref(), prefix)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
