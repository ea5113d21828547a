"""The dashboards of what carries it: the fleet, the ledger and the bus, the services."""

from panels import Dashboard, Panel, Query, quantiles, rate

FLEET = Dashboard(
    "fleet",
    "Fleet",
    "Agents: how many, in what state, and whether they are heard of.",
    (
        Panel(
            "Agents by status",
            "As the registry has them.",
            "short",
            (Query("max by (status) (countersign_agents)", "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Agents by what they are seen to do",
            "Registered: no heartbeat came, which is allowed. Failed: silent, and did not say that it stops.",
            "short",
            (Query("max by (phase) (countersign_agents_seen)", "{{phase}}"),),
            stacked=True,
        ),
        Panel(
            "Heartbeats",
            "Taken each second.",
            "ops",
            (Query("sum(rate(countersign_heartbeats_received_total[$__rate_interval]))", "taken"),),
        ),
        Panel(
            "Agents' events",
            "What agents say they processed, each second.",
            "ops",
            rate("countersign_agent_events_total", "result"),
            stacked=True,
        ),
        Panel(
            "Time for an event",
            "What agents say they spent on each, on average.",
            "s",
            (
                Query(
                    "sum(rate(countersign_agent_processing_seconds_total[$__rate_interval]))"
                    " / sum(rate(countersign_agent_events_total[$__rate_interval]))",
                    "mean",
                ),
            ),
        ),
        Panel(
            "CPU of agents",
            "Cores that their processes use, together.",
            "short",
            (Query("sum(rate(countersign_agent_cpu_seconds_total[$__rate_interval]))", "cores"),),
        ),
        Panel(
            "Memory of agents",
            "Of those that sent metrics within five minutes.",
            "bytes",
            (Query("max(countersign_agent_memory_bytes)", "resident"),),
        ),
        Panel(
            "Log records of agents",
            "Kept each second, by level.",
            "ops",
            rate("countersign_agent_log_records_total", "level"),
            stacked=True,
        ),
        Panel(
            "Telemetry not kept",
            "Messages of agents each second, by reason. Shed: more than is taken of one; the registry's log names it.",
            "ops",
            (
                Query(
                    "sum by (kind, result) (rate(countersign_telemetry_batches_total"
                    '{result!~"kept|repeated"}[$__rate_interval]))',
                    "{{kind}}: {{result}}",
                ),
            ),
        ),
        Panel(
            "Credentials issued",
            "By kind, in the time shown.",
            "short",
            (Query("sum by (kind) (increase(countersign_credentials_issued_total[$__range]))", "{{kind}}"),),
            kind="bargauge",
        ),
        Panel(
            "NATS users revoked",
            "How many nats-server was told to refuse.",
            "short",
            (Query("max(countersign_nats_users_revoked)", "revoked"),),
            kind="stat",
        ),
        Panel(
            "Pushes of the account",
            "Whether nats-server takes what the registry tells it of agents' users.",
            "ops",
            rate("countersign_account_pushes_total", "result"),
        ),
        Panel(
            "Events to be published",
            "Committed by the registry, and not on the bus yet.",
            "short",
            (Query("max(countersign_outbox_pending)", "waiting"),),
        ),
    ),
)

LEDGER = Dashboard(
    "ledger-and-bus",
    "Ledger and bus",
    "Whether everything is on record, and what waits on the way.",
    (
        Panel(
            "Entries",
            "Appended each second.",
            "ops",
            rate("countersign_audit_entries_total", "kind"),
            stacked=True,
        ),
        Panel(
            "Lag",
            "From when an event happened until it was on record.",
            "s",
            (Query("max(countersign_audit_lag_seconds)", "lag"),),
        ),
        Panel(
            "Last checkpoint",
            "Its age, while entries wait for one.",
            "s",
            (Query("max(countersign_audit_checkpoint_age_seconds)", "age"),),
        ),
        Panel(
            "Writing a batch",
            "Time to write and commit.",
            "s",
            quantiles("countersign_audit_append_seconds"),
        ),
        Panel(
            "Waiting for a receipt",
            "How long the executor waits until a grant is on record.",
            "s",
            quantiles("countersign_confirmation_seconds"),
        ),
        Panel(
            "Doubtful messages",
            "Recorded as unverified, by reason, and as repeats.",
            "ops",
            (
                *rate("countersign_audit_unverified_total", "reason"),
                Query("sum(rate(countersign_audit_repeated_total[$__rate_interval]))", "repeated"),
            ),
        ),
        Panel(
            "Messages handled",
            "Each second, by consumer.",
            "ops",
            rate("countersign_messages_handled_total", "consumer"),
            stacked=True,
        ),
        Panel(
            "Queue depth",
            "Messages not delivered to any replica yet.",
            "short",
            (Query("max by (consumer) (countersign_messages_pending)", "{{consumer}}"),),
        ),
        Panel(
            "Oldest message",
            "Age of the oldest that is not settled.",
            "s",
            (Query("max by (consumer) (countersign_messages_oldest_seconds)", "{{consumer}}"),),
        ),
        Panel(
            "Failed and delivered again",
            "Handler failures, and deliveries of messages that were delivered before.",
            "ops",
            (
                *rate("countersign_messages_failed_total", "consumer", legend="{{consumer}} failed"),
                *rate("countersign_messages_redelivered_total", "consumer", legend="{{consumer}} again"),
            ),
        ),
        Panel(
            "Dead letters",
            "Open: neither redriven nor dropped.",
            "short",
            (Query("max by (consumer) (countersign_dead_letters_open)", "{{consumer}}"),),
            stacked=True,
        ),
        Panel(
            "Ends not on record",
            "Ended actions whose end the ledger does not have.",
            "short",
            (Query("max(countersign_ends_not_on_record)", "missing"),),
            kind="stat",
        ),
    ),
)

SERVICES = Dashboard(
    "services",
    "Services",
    "Rate, errors and duration of every handler, and what each process uses.",
    (
        Panel(
            "Ready",
            "Replicas that can work, by service.",
            "short",
            (Query("sum by (service) (countersign_ready)", "{{service}}"),),
            kind="stat",
        ),
        Panel(
            "Versions",
            "Replicas by service and version.",
            "short",
            (Query("sum by (service, version) (countersign_service_info)", "{{service}} {{version}}"),),
            kind="stat",
        ),
        Panel(
            "HTTP requests",
            "Answered by the gateway each second, by status.",
            "ops",
            rate("countersign_http_requests_total", "status"),
            stacked=True,
        ),
        Panel(
            "HTTP, slowest hundredth by route",
            "A wait that the caller asked for included.",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (route, le)"
                    " (rate(countersign_http_request_seconds_bucket[$__rate_interval])))",
                    "{{route}}",
                ),
            ),
        ),
        Panel(
            "Handlers, slowest hundredth",
            "Time to handle a batch, by consumer.",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (consumer, le)"
                    " (rate(countersign_handler_seconds_bucket[$__rate_interval])))",
                    "{{consumer}}",
                ),
            ),
        ),
        Panel(
            "Batches",
            "Messages handled at once, on average.",
            "short",
            (
                Query(
                    "sum by (consumer) (rate(countersign_batch_size_sum[$__rate_interval]))"
                    " / sum by (consumer) (rate(countersign_batch_size_count[$__rate_interval]))",
                    "{{consumer}}",
                ),
            ),
        ),
        Panel(
            "Commands",
            "Answered each second, by service.",
            "ops",
            rate("countersign_commands_total", "service"),
        ),
        Panel(
            "Commands, slowest hundredth",
            "Time to answer.",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (command, le)"
                    " (rate(countersign_command_seconds_bucket[$__rate_interval])))",
                    "{{command}}",
                ),
            ),
        ),
        Panel(
            "Commands that failed",
            "Not those that were refused for what was wrong with them.",
            "ops",
            rate("countersign_commands_total", "service, outcome", '{outcome=~"failed|unavailable"}'),
        ),
        Panel(
            "Database connections in use",
            "Of those that the pool may open.",
            "percentunit",
            (
                Query(
                    'sum by (service) (countersign_database_connections{of="open"})'
                    ' / sum by (service) (countersign_database_connections{of="most"})'
                    ' - sum by (service) (countersign_database_connections{of="idle"})'
                    ' / sum by (service) (countersign_database_connections{of="most"})',
                    "{{service}}",
                ),
            ),
        ),
        Panel(
            "Waiting for a connection",
            "Slowest hundredth.",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (service, le)"
                    " (rate(countersign_database_wait_seconds_bucket[$__rate_interval])))",
                    "{{service}}",
                ),
            ),
        ),
        Panel(
            "Loops started again",
            "Background loops that raised.",
            "ops",
            rate("countersign_background_failures_total", "service, loop"),
        ),
        Panel(
            "Processor",
            "Cores in use.",
            "short",
            (Query("sum by (service) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{service}}"),),
            stacked=True,
        ),
        Panel(
            "Memory",
            "Resident; what processes forked from one share counts for each.",
            "bytes",
            (Query("sum by (service) (process_resident_memory_bytes)", "{{service}}"),),
        ),
        Panel(
            "Open files",
            "Of those allowed.",
            "percentunit",
            (Query("max by (service) (process_open_fds / process_max_fds)", "{{service}}"),),
        ),
    ),
)
