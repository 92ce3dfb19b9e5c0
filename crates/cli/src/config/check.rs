//! What no type can say: bounds, and keys that must agree.

use figment::Figment;

use super::explain::origin;
use super::{Config, ConfigError};

/// Checks everything, so that all mistakes are told at once.
pub(super) fn check(config: &Config, figment: &Figment) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    let mut require = |holds: bool, key: &str, must: &str| {
        if !holds {
            problems.push(format!("`{key}` ({}) {must}", origin(figment, key)));
        }
    };
    let Config {
        source,
        target,
        tables: _,
        declared: _,
        backfill,
        relay,
        steps,
        writes,
        reads,
        validate,
        serve,
        migrate: _,
        plan,
        cleanup: _,
    } = config;

    if let Some(url) = &source.url {
        let scheme = url.expose().starts_with("postgres://") || url.expose().starts_with("postgresql://");
        require(scheme, "source.url", "must begin with postgres:// or postgresql://");
    }
    let verified = !source.require_verified_tls || !super::transport::source_is_unverified(config);
    require(verified, "source.url", "must have sslmode=verify-full, as source.require_verified_tls is set");
    require(
        source.password_file.is_none() || source.password_command.is_none(),
        "source.password_command",
        "and source.password_file exclude each other: set one of them",
    );
    if let Some(url) = &target.streams_endpoint_url {
        let scheme = url.starts_with("http://") || url.starts_with("https://");
        require(scheme, "target.streams_endpoint_url", "must begin with http:// or https://");
    }
    if let Some(url) = &target.endpoint_url {
        let scheme = url.starts_with("http://") || url.starts_with("https://");
        require(scheme, "target.endpoint_url", "must begin with http:// or https://");
    }
    require(
        !target.emulator_credentials || target.endpoint_url.is_some(),
        "target.emulator_credentials",
        "is for endpoints of emulators: set target.endpoint_url as well, or use real credentials",
    );

    require(
        serve.listen.parse::<std::net::SocketAddr>().is_ok(),
        "serve.listen",
        "must be an address and a port, such as 127.0.0.1:7420 or [::1]:7420",
    );
    require((1..=100_000).contains(&serve.sample_rows), "serve.sample_rows", "must be 1 to 100000");
    require(
        serve.tls_cert.is_some() == serve.tls_key.is_some(),
        "serve.tls_key",
        "and serve.tls_cert go together: set both, or none",
    );
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
        LEASE_MS.contains(&backfill.lease_ms),
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

    // Behind it PostgreSQL ends transactions that do nothing, and a strict write waits inside its own.
    const INLINE_TIMEOUT_MS_MAX: u64 = 25_000;
    require(
        writes.inline_timeout_ms <= INLINE_TIMEOUT_MS_MAX,
        "writes.inline_timeout_ms",
        &format!("must be {INLINE_TIMEOUT_MS_MAX} or less: a strict write holds its row locks for as long"),
    );
    require(
        writes.retry_delay_ms <= writes.retry_delay_ms_max,
        "writes.retry_delay_ms_max",
        &format!("must not be below writes.retry_delay_ms ({})", writes.retry_delay_ms),
    );

    for (key, value) in [
        ("source.connect_timeout_ms", source.connect_timeout_ms),
        ("source.lock_timeout_ms", source.lock_timeout_ms),
        ("target.request_timeout_ms", target.request_timeout_ms),
        ("target.connect_timeout_ms", target.connect_timeout_ms),
        ("backfill.readers", backfill.readers as u64),
        ("backfill.requests_in_flight", backfill.requests_in_flight as u64),
        ("backfill.ranges_per_table", backfill.ranges_per_table as u64),
        ("backfill.chunk_bytes", backfill.chunk_bytes as u64),
        ("relay.batch_keys", relay.batch_keys as u64),
        ("relay.requests_in_flight", relay.requests_in_flight as u64),
        ("relay.idle_pause_ms", relay.idle_pause_ms),
        ("writes.inline_timeout_ms", writes.inline_timeout_ms),
        ("writes.best_effort_attempts_max", u64::from(writes.best_effort_attempts_max)),
        ("writes.strict_attempts_max", u64::from(writes.strict_attempts_max)),
        ("writes.puts_in_flight_max", writes.puts_in_flight_max as u64),
        ("writes.batch_rows_max", writes.batch_rows_max as u64),
        ("reads.max_staleness_ms", reads.max_staleness_ms),
        ("reads.standing_poll_ms", reads.standing_poll_ms),
        ("validate.parallel", validate.parallel as u64),
        ("validate.chunk_rows", validate.chunk_rows as u64),
        ("validate.scan_segments", validate.scan_segments as u64),
        ("steps.lock_tries", u64::from(steps.lock_tries)),
        ("steps.phase_lease_ms", steps.phase_lease_ms),
        ("steps.pause_ms_max", steps.pause_ms_max),
        ("steps.catch_up_s_max", steps.catch_up_s_max),
    ] {
        require(value > 0, key, "must be 1 or more");
    }
    // The barrier is a transaction that waits, and PostgreSQL ends one that has done nothing for 30 s.
    const PAUSE_MS_MAX: u64 = 25_000;
    require(
        steps.pause_ms_max <= PAUSE_MS_MAX,
        "steps.pause_ms_max",
        &format!(
            "must be {PAUSE_MS_MAX} or less: PostgreSQL ends the transaction that holds the barrier after 30 s"
        ),
    );
    require(steps.pending_keys_max >= 0, "steps.pending_keys_max", "must be 0 or more");

    for named in config.names() {
        require(
            config.declared.is_empty() || lockstep_declared::is_name(named.name),
            &format!("tables.{}", named.name),
            "must be called by 1 to 40 of a-z 0-9 _; what the table itself is called goes into `source`",
        );
        if let Err(error) = named.source.parse::<lockstep_postgres::Relation>() {
            require(false, &format!("tables.{}.source", named.name), &error.message);
        }
        let legal =
            named.target.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        require(
            legal && (3..=255).contains(&named.target.len()),
            &format!("tables.{}.target", named.name),
            &format!(
                "makes the table name `{}`; DynamoDB allows 3 to 255 of a-z A-Z 0-9 _ - .",
                named.target
            ),
        );
    }
    if let Some(control) = &target.control_table {
        let legal = control.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        let free = config.names().iter().all(|named| named.target != *control);
        let must = "must be 3 to 255 of a-z A-Z 0-9 _ - . and no table's target";
        require(legal && free && (3..=255).contains(&control.len()), "target.control_table", must);
    }
    let names: Vec<_> = config.names();
    for (n, one) in names.iter().enumerate() {
        if let Some(other) = names[..n].iter().find(|other| other.target == one.target) {
            let must = format!("is also the target of {}; two tables cannot share one", other.name);
            require(false, &format!("tables.{}.target", one.name), &must);
        }
    }

    if problems.is_empty() { Ok(()) } else { Err(ConfigError::all(problems)) }
}
