//! HTTP coming in: routes, extractors, errors to answers, pages, and the server loop under them.
//!
//! [`router`] is the table of every route, over one [`vault::Vault`]; [`serve`] runs it with or without TLS. A handler
//! extracts, calls one flow of the vault, and answers; it holds no rule. `cli` and `acceptance` call this crate.

mod address;
mod app;
mod assets;
mod authorize;
mod body;
mod connect;
mod cookie;
mod cors;
mod discovery;
mod edge;
mod error;
mod form;
mod health;
mod limiter;
mod login;
mod logout;
mod management;
mod me;
mod page;
mod query;
mod redirect;
mod routes;
mod serve;
mod token;
mod userinfo;

pub use address::Peer;
pub use app::WebOptions;
pub use management::LocalAdministrator;
pub use routes::router;
pub use serve::serve;
