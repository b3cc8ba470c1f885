//! What a bad network between vault and provider costs, in numbers: each fault, with each way to rotate that makes a
//! difference, told in three phases of a hundred callers each.
//!
//! - *Ageing*: the token has 100 seconds left and the fault begins.
//! - *Ended*: the token is over.
//! - *After*: the fault is over, and the callers come back exactly when they were told to.
//!
//! Each case prints a row, which `./test` shows (and `./test -p acceptance --test faults` alone). How many callers of an
//! ageing token already get the next one is a matter of speed; every other number is exact and checked.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use acceptance::{Fault, LoggedIn, Reply, Setup, World, story};
use anyhow::Result;
use sandbox::{Behaviour, Rotation};
use store::params;

/// Callers at once in each phase.
const CALLERS: usize = 100;
/// Seconds that a used refresh token of a lenient provider goes on working.
const GRACE: Rotation = Rotation::Grace(600);
/// What a fault that the provider never sees is told with: rotation can make no difference but by our own doing.
const EXTREMES: [Rotation; 2] = [Rotation::None, Rotation::Strict];
/// Where a lost answer does no harm: the refresh token that we hold goes on working.
const LENIENT: [Rotation; 3] = [Rotation::None, Rotation::KeepOld, GRACE];
/// Long enough for any answer that is meant to come, short enough to wait for one that is not.
const SHORT_DEADLINE: Duration = Duration::from_secs(2);

/// What callers hear while a fault lasts and their token is over.
#[derive(Clone)]
struct Told {
    status: u16,
    error: &'static str,
    /// Seconds in `Retry-After`.
    wait: RangeInclusive<u64>,
    /// Calls that the hundred cost.
    calls: u64,
}

/// After a first failure at 40 seconds before the end and a second one at the end: the wait has doubled once, and
/// up to a quarter is added by chance.
const UNAVAILABLE: Told = Told {
    status: 503,
    error: "temporarily_unavailable",
    wait: 2..=3,
    calls: 1,
};
const UNREADABLE: Told = Told {
    status: 502,
    error: "server_error",
    ..UNAVAILABLE
};

fn proxied() -> Setup {
    Setup {
        proxied: true,
        ..Setup::default()
    }
}

fn impatient() -> Setup {
    Setup {
        deadline: SHORT_DEADLINE,
        ..proxied()
    }
}

story!(no_fault, proxied(), |world| {
    for rotation in EXTREMES {
        passes(world, "none", None, rotation).await?;
    }
});

story!(a_delay_within_the_deadline, proxied(), |world| {
    let delay = Fault::Delay(Duration::from_millis(300));
    for rotation in EXTREMES {
        passes(world, "delay of 0.3 s", Some(delay.clone()), rotation).await?;
    }
});

story!(a_delay_beyond_the_deadline, impatient(), |world| {
    // Longer than any test: the answer never comes.
    let delay = Fault::Delay(Duration::from_secs(3600));
    let name = "delay of 1 h";
    recovers(world, name, delay.clone(), Rotation::None, UNAVAILABLE).await?;
    is_lost(world, name, delay, Rotation::Strict).await?;
});

story!(a_cut_before_the_request, proxied(), |world| {
    for rotation in EXTREMES {
        let fault = Fault::CutBeforeRequest;
        recovers(world, "cut before request", fault, rotation, UNAVAILABLE).await?;
    }
});

story!(a_cut_after_the_request, proxied(), |world| {
    let (name, fault) = ("cut after request", Fault::CutAfterRequest);
    for rotation in LENIENT {
        recovers(world, name, fault.clone(), rotation, UNAVAILABLE).await?;
    }
    is_lost(world, name, fault, Rotation::Strict).await?;
});

story!(a_cut_in_the_answer, proxied(), |world| {
    let (name, fault) = ("cut in answer", Fault::CutInAnswer);
    for rotation in LENIENT {
        recovers(world, name, fault.clone(), rotation, UNAVAILABLE).await?;
    }
    is_lost(world, name, fault, Rotation::Strict).await?;
});

story!(a_429_with_retry_after, proxied(), |world| {
    let told = Told {
        // 120 s and up to a quarter, of which 40 s are over: nobody asks again.
        wait: 80..=110,
        calls: 0,
        ..UNAVAILABLE
    };
    for rotation in EXTREMES {
        let fault = Fault::Status429 {
            retry_after: "120".to_owned(),
        };
        let name = "429, Retry-After: 120";
        recovers(world, name, fault, rotation, told.clone()).await?;
    }
});

story!(a_500_of_a_gateway, proxied(), |world| {
    for rotation in EXTREMES {
        let fault = Fault::Status500 { forwarded: false };
        recovers(world, "500, not forwarded", fault, rotation, UNAVAILABLE).await?;
    }
});

story!(a_500_after_the_work_was_done, proxied(), |world| {
    let (name, fault) = ("500, forwarded", Fault::Status500 { forwarded: true });
    for rotation in LENIENT {
        recovers(world, name, fault.clone(), rotation, UNAVAILABLE).await?;
    }
    is_lost(world, name, fault, Rotation::Strict).await?;
});

story!(a_page_instead_of_an_answer, proxied(), |world| {
    for rotation in EXTREMES {
        recovers(world, "HTML", Fault::Html, rotation, UNREADABLE).await?;
    }
});

story!(ten_megabytes, proxied(), |world| {
    let (name, fault) = ("10 MB", Fault::TenMegabytes);
    for rotation in LENIENT {
        recovers(world, name, fault.clone(), rotation, UNAVAILABLE).await?;
    }
    is_lost(world, name, fault, Rotation::Strict).await?;
});

story!(half_of_the_json, proxied(), |world| {
    let (name, fault) = ("half JSON", Fault::HalfJson);
    for rotation in LENIENT {
        recovers(world, name, fault.clone(), rotation, UNREADABLE).await?;
    }
    is_lost(world, name, fault, Rotation::Strict).await?;
});

/// A fault that nobody notices: one call brings the next token, for all callers.
async fn passes(
    world: &mut World,
    name: &str,
    fault: Option<Fault>,
    rotation: Rotation,
) -> Result<()> {
    let mut case = Case::begin(world, name, rotation).await?;
    world.proxy().set_fault(fault);
    world.advance(3600 - 40);
    let ageing = case.ask(world).await?;
    // Who comes after the refresh has landed gets what it brought.
    assert_eq!(ageing.refused.len(), 0, "{case}");
    assert_eq!(case.calls(world), 1, "{case}");
    for calls in 2..=3 {
        world.advance(3600);
        let ended = case.ask(world).await?;
        assert_eq!(ended.refreshed, CALLERS, "{case}");
        assert_eq!(case.calls(world), calls, "{case}");
    }
    assert_eq!(status(world).await, "active", "{case}");
    assert_eq!(case.double_spends(world), 0, "{case}");
    case.end(world).await?;
    goes_on(world, &case).await
}

/// A fault after which the refresh token that we hold still works: an outage, and nothing else.
async fn recovers(
    world: &mut World,
    name: &str,
    fault: Fault,
    rotation: Rotation,
    told: Told,
) -> Result<()> {
    let mut case = Case::begin(world, name, rotation).await?;
    world.proxy().set_fault(Some(fault));
    world.advance(3600 - 40);
    let ageing = case.ask(world).await?;
    assert_eq!(ageing.valid, CALLERS, "{case}");
    assert_eq!(case.calls(world), 1, "{case}");
    assert_eq!(status(world).await, "active", "{case}");

    world.advance(40);
    let ended = case.ask(world).await?;
    let wait = ended.all_refused(told.status, told.error, &case);
    let wait = wait.unwrap_or_else(|| panic!("no Retry-After: {case}"));
    assert!(told.wait.contains(&wait), "{wait}: {case}");
    assert_eq!(case.calls(world), 1 + told.calls, "{case}");
    assert_eq!(status(world).await, "active", "{case}");

    world.proxy().set_fault(None);
    world.advance(wait - 1);
    let early = case.ask_by(world, 1).await?;
    assert_eq!(
        early.all_refused(told.status, told.error, &case),
        Some(1),
        "{case}"
    );
    assert_eq!(case.calls(world), 1 + told.calls, "{case}");

    world.advance(1);
    let after = case.ask(world).await?;
    assert_eq!(after.refreshed, CALLERS, "{case}");
    assert_eq!(case.calls(world), 2 + told.calls, "{case}");
    assert_eq!(status(world).await, "active", "{case}");
    assert_eq!(case.double_spends(world), 0, "{case}");
    case.end(world).await?;
    goes_on(world, &case).await
}

/// A fault that takes the only refresh token with it: the provider has rotated and its answer is gone. We find out with
/// one more try, which is declared, and then leave the provider alone; the user is not said to have taken anything back.
/// The fault is over before that try, so that the provider's answer to it arrives.
async fn is_lost(world: &mut World, name: &str, fault: Fault, rotation: Rotation) -> Result<()> {
    let mut case = Case::begin(world, name, rotation).await?;
    world.proxy().set_fault(Some(fault));
    world.advance(3600 - 40);
    let ageing = case.ask(world).await?;
    assert_eq!(ageing.valid, CALLERS, "{case}");
    assert_eq!(case.calls(world), 1, "{case}");
    assert_eq!(status(world).await, "active", "{case}");

    world.proxy().set_fault(None);
    for seconds in [40, 3600] {
        world.advance(seconds);
        let ended = case.ask(world).await?;
        let error = "federated_connection_refresh_token_flow_failed";
        assert_eq!(ended.all_refused(401, error, &case), None, "{case}");
        assert_eq!(case.calls(world), 2, "{case}");
        assert_eq!(case.double_spends(world), 1, "{case}");
        assert_eq!(status(world).await, "outcome_unknown", "{case}");
    }
    case.end(world).await
}

/// The refresh token that the vault holds is the provider's last one: an hour later it brings the next token.
async fn goes_on(world: &mut World, case: &Case) -> Result<()> {
    let spent = case.double_spends(world);
    world.advance(3600);
    let exchanged = world.exchange(&case.body).await?.unwrap();
    assert!(
        world.provider_honours(&exchanged.access_token).await?,
        "{case}"
    );
    assert_eq!(case.double_spends(world), spent, "{case}");
    Ok(())
}

/// An account under one fault, and what it cost so far.
struct Case {
    name: String,
    rotation: Rotation,
    body: serde_json::Value,
    /// The token that was there before the fault.
    first_token: String,
    calls_before: u64,
    forwarded_before: u64,
    double_spends_before: u64,
    audited_before: Audited,
    exchanges: usize,
    valid: usize,
    refreshed: usize,
    refused: Vec<(u16, String)>,
}

/// Exchanges on record: succeeded, and not.
type Audited = (i64, i64);

/// The answers of one phase.
#[derive(Debug, Default)]
struct Phase {
    /// Answered from the token that was there before the fault.
    valid: usize,
    /// Answered with another one.
    refreshed: usize,
    /// Refused: status, code, `Retry-After`.
    refused: Vec<(u16, String, Option<u64>)>,
}

impl Phase {
    /// The `Retry-After` that everybody heard.
    fn all_refused(&self, status: u16, error: &str, case: &Case) -> Option<u64> {
        assert_eq!((self.valid, self.refreshed), (0, 0), "{case}");
        let said: BTreeSet<_> = self.refused.iter().cloned().collect();
        assert_eq!(said.len(), 1, "{said:?}: {case}");
        let (said_status, said_error, wait) = said.into_iter().next().unwrap();
        assert_eq!(
            (said_status, said_error.as_str()),
            (status, error),
            "{case}"
        );
        wait
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, rotation {:?}", self.name, self.rotation)
    }
}

impl Case {
    /// Connects the account, anew where a case before has used it.
    async fn begin(world: &mut World, name: &str, rotation: Rotation) -> Result<Self> {
        if world.proxy().requests() == 0 {
            println!(
                "{:21} | {:10} | exchanges | valid token | after refresh | provider calls | reached it | {:15} | refused",
                "fault", "rotation", "account after",
            );
        }
        world.proxy().set_fault(None);
        world.sandbox.set_behaviour(Behaviour {
            rotation,
            ..Behaviour::default()
        });
        let LoggedIn { refresh_token, .. } = world.log_in().await?;
        let me = world.my_account_token(&refresh_token).await?;
        world.connect(&me, "alice").await?;
        let body = world.refresh_exchange(&refresh_token);
        let first = world.exchange(&body).await?.unwrap();
        Ok(Self {
            name: name.to_owned(),
            rotation,
            body,
            first_token: first.access_token,
            calls_before: world.proxy().requests(),
            forwarded_before: world.proxy().forwarded(),
            double_spends_before: world.sandbox.calls().double_spends,
            audited_before: audited(world).await,
            exchanges: 0,
            valid: 0,
            refreshed: 0,
            refused: Vec::new(),
        })
    }

    async fn ask(&mut self, world: &mut World) -> Result<Phase> {
        self.ask_by(world, CALLERS).await
    }

    /// So many callers at once. Returns when the refresh that they began, if any, has landed.
    async fn ask_by(&mut self, world: &mut World, callers: usize) -> Result<Phase> {
        let mut phase = Phase::default();
        let mut new_tokens = BTreeSet::new();
        for reply in world.exchange_at_once(&self.body, callers).await? {
            let body = reply.json();
            if reply.status != 200 {
                let error = body["error"].as_str().unwrap().to_owned();
                let wait = retry_after(&reply);
                self.refused.push((reply.status, error.clone()));
                phase.refused.push((reply.status, error, wait));
            } else if body["access_token"] == self.first_token {
                phase.valid += 1;
            } else {
                phase.refreshed += 1;
                new_tokens.insert(body["access_token"].as_str().unwrap().to_owned());
            }
        }
        world.vault.land().await;
        assert!(new_tokens.len() <= 1, "two tokens in one phase: {self}");
        for token in &new_tokens {
            assert!(world.provider_honours(token).await?, "{self}");
        }
        self.exchanges += callers;
        self.valid += phase.valid;
        self.refreshed += phase.refreshed;
        Ok(phase)
    }

    /// Calls of the provider's token endpoint, carried out or not.
    fn calls(&self, world: &World) -> u64 {
        world.proxy().requests() - self.calls_before
    }

    fn double_spends(&self, world: &World) -> u64 {
        world.sandbox.calls().double_spends - self.double_spends_before
    }

    /// Checks that nothing was given without a record, and prints the row.
    async fn end(&self, world: &World) -> Result<()> {
        let answered = self.valid + self.refreshed;
        assert_eq!(answered + self.refused.len(), self.exchanges, "{self}");
        let (succeeded, other) = audited(world).await;
        let recorded = (
            succeeded - self.audited_before.0,
            other - self.audited_before.1,
        );
        let expected = (answered as i64, self.refused.len() as i64);
        assert_eq!(recorded, expected, "{self}");

        let mut codes = BTreeMap::new();
        for (status, error) in &self.refused {
            *codes.entry(format!("{status} {error}")).or_insert(0) += 1;
        }
        let codes: Vec<String> = codes
            .into_iter()
            .map(|(code, number)| format!("{number} × {code}"))
            .collect();
        let refused = match codes.as_slice() {
            [] => "0".to_owned(),
            codes => codes.join(", "),
        };
        println!(
            "{:21} | {:10} | {:9} | {:11} | {:13} | {:14} | {:10} | {:15} | {refused}",
            self.name,
            format!("{:?}", self.rotation),
            self.exchanges,
            self.valid,
            self.refreshed,
            self.calls(world),
            world.proxy().forwarded() - self.forwarded_before,
            status(world).await,
        );
        Ok(())
    }
}

fn retry_after(reply: &Reply) -> Option<u64> {
    let value = reply.headers.get("retry-after")?;
    Some(value.to_str().unwrap().parse().unwrap())
}

/// The state of the only account.
async fn status(world: &World) -> String {
    let rows = world
        .db
        .read("select status from accounts", params![])
        .await;
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 1);
    rows[0].text(0).unwrap().to_owned()
}

async fn audited(world: &World) -> Audited {
    let succeeded = "select count(*) from audit where event = 'exchange' and outcome = 'succeeded'";
    let other = "select count(*) from audit where event = 'exchange' and outcome <> 'succeeded'";
    (
        world.count(succeeded, params![]).await,
        world.count(other, params![]).await,
    )
}
