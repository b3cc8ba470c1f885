//! The flows: one operation a file, from start to end, told as numbered steps in its header.

pub(crate) mod accounts;
pub(crate) mod authenticate_client;
pub(crate) mod authorize;
mod client_credentials;
pub(crate) mod complete;
mod configure;
pub(crate) mod connect;
mod exchange;
mod give_back;
pub(crate) mod keep_alive;
mod login;
pub(crate) mod logout;
pub(crate) mod manage_apis;
pub(crate) mod manage_client_grants;
pub(crate) mod manage_clients;
pub(crate) mod manage_connections;
pub(crate) mod manage_consents;
mod manage_settings;
pub(crate) mod manage_users;
pub(crate) mod push_request;
mod redeem_code;
pub(crate) mod refresh;
mod revoke;
mod token;
mod use_refresh_token;
mod userinfo;
mod worker;
