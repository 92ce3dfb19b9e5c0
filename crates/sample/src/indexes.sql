-- The indexes the application reads by today. Built after the load, because building once costs less than keeping current.

CREATE INDEX IF NOT EXISTS integration_logs_application ON integration_logs (application_id, log_timestamp DESC);
CREATE INDEX IF NOT EXISTS integration_logs_service ON integration_logs (service_name, log_timestamp DESC);
CREATE INDEX IF NOT EXISTS integration_logs_correlation ON integration_logs (correlation_id);
CREATE INDEX IF NOT EXISTS integration_logs_errors ON integration_logs (log_timestamp DESC) WHERE NOT is_success;

CREATE INDEX IF NOT EXISTS payments_customer ON payments (customer_id, payment_date DESC);
CREATE INDEX IF NOT EXISTS payments_loan ON payments (loan_id, payment_date DESC);
CREATE INDEX IF NOT EXISTS payments_status ON payments (payment_status, payment_date DESC);
CREATE INDEX IF NOT EXISTS payments_method ON payments (payment_method, payment_date DESC);
