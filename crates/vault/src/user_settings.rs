//! A user as an administrator sets and sees them (contract 4.4). The password goes in and never comes out.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::user::{User, UserProfile};

/// The name of the one place where passwords are, as tools of Auth0 call theirs.
const DATABASE: &str = "Username-Password-Authentication";

/// What an administrator sets of a user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(example = example())]
pub struct UserSettings {
    /// What comes after `usr_` in the id of a new user. Default: chance.
    #[serde(skip_serializing)]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-zA-Z0-9_-]+$"), extend("x-immutable" = true))]
    pub user_id: Option<String>,
    /// What they log in by. Default: the e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub username: Option<String>,
    /// Their e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254), regex(pattern = "^[^\\s@<>]+@[^\\s@<>]+$"))]
    pub email: Option<String>,
    /// Whether somebody has made sure that the address is theirs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub email_verified: bool,
    /// What they log in with: 8 characters at least. It is never shown. Without one they cannot log in.
    #[serde(skip_serializing)]
    #[schemars(length(min = 8, max = 1024))]
    pub password: Option<String>,
    /// What they are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 300))]
    pub name: Option<String>,
    /// Their first name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 150))]
    pub given_name: Option<String>,
    /// Their last name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 150))]
    pub family_name: Option<String>,
    /// What friends call them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 300))]
    pub nickname: Option<String>,
    /// Their picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub picture: Option<String>,
    /// Free to use. A change sets the members that it names; null takes one away.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub user_metadata: Map<String, Value>,
    /// Free to use. A change sets the members that it names; null takes one away.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub app_metadata: Map<String, Value>,
    /// Whether they may do nothing, for now: no login, no refresh, no exchange.
    pub blocked: bool,
    /// Of no meaning here: there is one place for passwords. Taken from tools that send it.
    #[serde(skip_serializing)]
    #[schemars(length(max = 128))]
    pub connection: Option<String>,
    /// Of no meaning here: no mail is sent. Taken from tools that send it.
    #[serde(skip_serializing)]
    pub verify_email: Option<bool>,
}

/// A user as the Management API shows them.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "User")]
pub struct UserView {
    /// `usr_…`: the `sub` of every token.
    pub user_id: String,
    /// How they log in.
    pub identities: Vec<IdentityView>,
    /// When they were made.
    pub created_at: Timestamp,
    /// When they last changed.
    pub updated_at: Timestamp,
    /// What was set.
    #[serde(flatten)]
    pub settings: UserSettings,
}

/// A way to log in, in the words of tools.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IdentityView {
    /// The place of the password.
    pub connection: &'static str,
    /// The kind of place.
    pub provider: &'static str,
    /// Who they are there.
    pub user_id: String,
    /// Whether somebody else lets them log in.
    #[serde(rename = "isSocial")]
    pub is_social: bool,
}

fn example() -> Value {
    json!({ "email": "ada@example.com", "password": "correct horse battery", "name": "Ada" })
}

impl UserSettings {
    /// What is set of a user.
    pub(crate) fn of(user: &User) -> Self {
        let profile = user.profile.clone();
        Self {
            username: Some(user.username.clone()),
            email: user.email.clone(),
            email_verified: profile.email_verified,
            name: user.name.clone(),
            given_name: profile.given_name,
            family_name: profile.family_name,
            nickname: profile.nickname,
            picture: profile.picture,
            user_metadata: profile.user_metadata,
            app_metadata: profile.app_metadata,
            blocked: user.blocked_at.is_some(),
            ..Self::default()
        }
    }

    /// The part that only people and their tools read.
    pub(crate) fn profile(&self) -> UserProfile {
        UserProfile {
            email_verified: self.email_verified,
            given_name: self.given_name.clone(),
            family_name: self.family_name.clone(),
            nickname: self.nickname.clone(),
            picture: self.picture.clone(),
            user_metadata: self.user_metadata.clone(),
            app_metadata: self.app_metadata.clone(),
        }
    }

    /// Turns the metadata of a change into the whole that it makes: the members that it names are set, null takes one away.
    pub(crate) fn merge_metadata(&self, change: &mut Map<String, Value>) {
        for (name, before) in [
            ("user_metadata", &self.user_metadata),
            ("app_metadata", &self.app_metadata),
        ] {
            if let Some(Value::Object(members)) = change.get_mut(name) {
                let mut whole = before.clone();
                for (member, value) in std::mem::take(members) {
                    if value.is_null() {
                        whole.remove(&member);
                    } else {
                        whole.insert(member, value);
                    }
                }
                *members = whole;
            }
        }
    }
}

impl UserView {
    pub(crate) fn of(user: &User) -> Self {
        Self {
            user_id: user.id.clone(),
            identities: vec![IdentityView {
                connection: DATABASE,
                provider: "auth0",
                user_id: user.id.trim_start_matches("usr_").to_owned(),
                is_social: false,
            }],
            created_at: user.created_at,
            updated_at: user.updated_at,
            settings: UserSettings::of(user),
        }
    }
}
