//! Checks that no type can make: bounds, and keys that must agree.

use std::time::Duration;

use figment::Figment;

use lockstep::config::Check;
use lockstep_coordinator::{ImportOptions, LATENCY_PERCENTILES, StepOptions};
use lockstep_daemon::{LISTEN, ServeOptions};
use lockstep_dynamo::NEW_TABLE_UNITS_PER_S;

use super::{Config, ConfigError};

/// Checks everything, so that all mistakes are told at once.
pub(super) fn check(config: &Config, figment: &Figment) -> Result<(), ConfigError> {
    let mut shared = Check::of(figment);
    shared.stores(&config.source, &config.target);
    shared.calls(&config.writes, &config.reads);
    shared.tables(&config.names(), &config.target);
    // All are named, so that a new one is not forgotten here.
    let Config {
        source: _,
        target: _,
        tables: _,
        declared: _,
        backfill: _,
        import: _,
        relay: _,
        steps: _,
        writes: _,
        reads: _,
        validate: _,
        serve: _,
        migrate: _,
        plan: _,
        cleanup: _,
        replaced: _,
    } = config;
    let require = &mut |holds: bool, key: &str, must: &str| shared.require(holds, key, must);
    warm(config, require);
    serve(&config.serve, require);
    costs(config, require);
    backfill(config, require);
    import(&config.import, require);
    positive(config, require);
    steps(&config.steps, require);
    names(config, require);
    if shared.problems.is_empty() { Ok(()) } else { Err(ConfigError::all(shared.problems)) }
}

/// Takes whether it holds, of which key, and what must be so.
type Require<'a> = dyn FnMut(bool, &str, &str) + 'a;

/// A name that is misspelled would warm nothing, and the initial load would be throttled all the same.
fn warm(config: &Config, require: &mut Require<'_>) {
    let names = config.names();
    for (name, units) in &config.target.warm_write_units_per_s {
        let key = format!("target.warm_write_units_per_s.{name}");
        require(names.iter().any(|named| named.name == name), &key, "must be the name of a table that moves");
        let least = NEW_TABLE_UNITS_PER_S;
        require(*units >= least, &key, &format!("must be {least} or more, which every new table takes"));
    }
}

fn serve(serve: &ServeOptions, require: &mut Require<'_>) {
    require(
        serve.listen.parse::<std::net::SocketAddr>().is_ok(),
        "serve.listen",
        &format!("must be an address and a port, such as {LISTEN} or [::1]:7420"),
    );
    require((1..=100_000).contains(&serve.sample_rows), "serve.sample_rows", "must be 1 to 100000");
    require(
        serve.tls_cert.is_some() == serve.tls_key.is_some(),
        "serve.tls_key",
        "and serve.tls_cert go together: set both, or none",
    );
}

/// Amounts and shares.
fn costs(config: &Config, require: &mut Require<'_>) {
    let Config { serve, validate, plan, .. } = config;
    let tolerance = (0.0..=100.0).contains(&validate.count_tolerance_percent);
    require(tolerance, "validate.count_tolerance_percent", "must be from 0 to 100");
    let amounts = [
        ("serve.spend_cap_usd", serve.spend_cap_usd),
        ("plan.write_units_million_usd", plan.write_units_million_usd),
        ("plan.read_units_million_usd", plan.read_units_million_usd),
        ("plan.storage_gb_month_usd", plan.storage_gb_month_usd),
        ("plan.stream_reads_million_usd", plan.stream_reads_million_usd),
        ("plan.import_gb_usd", plan.import_gb_usd),
        ("plan.source_month_usd", plan.source_month_usd),
    ];
    for (key, usd) in amounts {
        require(usd.is_finite() && usd >= 0.0, key, "must be an amount of dollars, 0 or more");
    }
    let coordinated = (0.0..=100.0).contains(&plan.coordinated_percent);
    require(coordinated, "plan.coordinated_percent", "must be from 0 to 100");
    require((1..=100_000).contains(&plan.sample_rows), "plan.sample_rows", "must be from 1 to 100,000");
}

fn backfill(config: &Config, require: &mut Require<'_>) {
    let Config { source, backfill, .. } = config;
    // Readers hold a connection each; relay, coordinator, barrier and progress need the rest.
    const OTHERS: usize = 4;
    let connections = source.connections_max as usize;
    require(
        connections >= backfill.readers + OTHERS,
        "source.connections_max",
        &format!("must be at least backfill.readers ({}) + {OTHERS}", backfill.readers),
    );
    require(
        backfill.chunk_bytes <= backfill.queue_bytes_max,
        "backfill.queue_bytes_max",
        &format!("must not be below backfill.chunk_bytes ({})", backfill.chunk_bytes),
    );
    // Four renewals fit into it, over a network that is far and a server that is busy.
    const LEASE_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;
    require(
        LEASE_MS.contains(&ms(backfill.lease)),
        "backfill.lease_ms",
        &format!("must be from {} to {}", LEASE_MS.start(), LEASE_MS.end()),
    );
    if let (Some(start), Some(end)) = (backfill.window_start, backfill.window_end) {
        require(
            start < end,
            "backfill.window_end",
            &format!("must be after backfill.window_start ({start})"),
        );
    }
}

fn import(import: &ImportOptions, require: &mut Require<'_>) {
    require(
        import.s3.is_empty() || import.destination().is_some(),
        "import.s3",
        "must be a bucket and what its objects' names begin with, such as s3://bucket/lockstep",
    );
    let account = |text: &String| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    require(
        import.bucket_owner.as_ref().is_none_or(account),
        "import.bucket_owner",
        "must be the number of an account, twelve digits",
    );
}

/// Requires values above zero where zero does nothing, or never ends.
fn positive(config: &Config, require: &mut Require<'_>) {
    let Config { source, target, backfill, import, relay, steps, validate, .. } = config;
    for (key, value) in [
        ("source.lock_timeout_ms", source.lock_timeout_ms),
        // What was read leaves within this time, or is read again.
        ("target.request_lifetime_s", target.request_lifetime_s),
        ("backfill.readers", backfill.readers as u64),
        ("backfill.requests_in_flight", backfill.requests_in_flight as u64),
        ("backfill.ranges_per_table", backfill.ranges_per_table as u64),
        ("backfill.chunk_bytes", backfill.chunk_bytes as u64),
        ("import.part_mb", (import.part_bytes >> 20) as u64),
        ("relay.batch_keys", relay.batch_keys as u64),
        ("relay.requests_in_flight", relay.requests_in_flight as u64),
        ("relay.idle_pause_ms", ms(relay.idle_pause)),
        ("validate.parallel", validate.parallel as u64),
        ("validate.chunk_rows", validate.chunk_rows as u64),
        ("validate.scan_segments", validate.scan_segments as u64),
        ("steps.lock_tries", u64::from(steps.lock_tries)),
        ("steps.phase_lease_ms", ms(steps.phase_lease)),
        ("steps.pause_ms_max", ms(steps.pause_max)),
        ("steps.catch_up_s_max", steps.catch_up_max.as_secs()),
    ] {
        require(value > 0, key, "must be 1 or more");
    }
}

fn steps(steps: &StepOptions, require: &mut Require<'_>) {
    // The barrier is a transaction that waits, and PostgreSQL ends one that has done nothing for 30 s.
    const PAUSE_MS_MAX: u64 = 25_000;
    require(
        ms(steps.pause_max) <= PAUSE_MS_MAX,
        "steps.pause_ms_max",
        &format!(
            "must be {PAUSE_MS_MAX} or less: PostgreSQL ends the transaction that holds the barrier after 30 s"
        ),
    );
    require(steps.pending_keys_max >= 0, "steps.pending_keys_max", "must be 0 or more");
    require(
        LATENCY_PERCENTILES.contains(&steps.latency_percentile),
        "steps.latency_percentile",
        "must be 50, 95 or 99",
    );
    require((1..=10_000).contains(&steps.latency_rounds), "steps.latency_rounds", "must be 1 to 10000");
}

fn names(config: &Config, require: &mut Require<'_>) {
    for named in config.declared.names("") {
        require(
            lockstep_declared::is_name(named.name),
            &format!("tables.{}", named.name),
            "must be called by 1 to 40 of a-z 0-9 _; what the table itself is called goes into `source`",
        );
    }
}

/// Milliseconds, as a key has them.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
