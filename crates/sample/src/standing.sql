-- The rows of the tables that stay behind: small, the same on every run, and enough for every id the generator refers to.
-- Placeholders in braces are replaced by whole numbers (load/standing.rs). Rows that are there already are left alone.

INSERT INTO branches (branch_id, name, city, country)
SELECT i, c.city || ' ' || i, c.city, c.country
FROM generate_series(1, {branches}) AS i
JOIN (VALUES (0, 'Berlin', 'DE'), (1, 'Łódź', 'PL'), (2, 'Lisboa', 'PT'), (3, '東京', 'JP'), (4, 'القاهرة', 'EG'), (5, 'Boston', 'US'))
    AS c (n, city, country) ON c.n = i % 6
ON CONFLICT DO NOTHING;

INSERT INTO loan_officers (officer_id, branch_id, full_name, email)
SELECT i, 1 + i % {branches}, 'Officer ' || i, 'officer' || i || '@bank.example'
FROM generate_series(1, {officers}) AS i
ON CONFLICT DO NOTHING;

INSERT INTO customers (customer_id, full_name, email, country, created_date)
SELECT i, f.name || ' ' || i, 'customer' || i || '@mail.example', f.country, timestamptz '2020-01-01 00:00:00+00' + i * interval '7 hours'
FROM generate_series(1, {customers}) AS i
JOIN (VALUES (0, 'Anna Müller', 'DE'), (1, 'José García', 'ES'), (2, '李小龙', 'CN'), (3, 'محمد علي', 'EG'), (4, 'נועה כהן', 'IL'),
    (5, 'Siobhán O''Brien', 'IE'), (6, '山田 太郎', 'JP'))
    AS f (n, name, country) ON f.n = i % 7
ON CONFLICT DO NOTHING;

INSERT INTO applications (application_id, customer_id, officer_id, requested_amount, currency, application_status, created_date)
SELECT i, 1 + i % {customers}, CASE WHEN i % 5 > 0 THEN 1 + i % {officers} END, 1000 + i * 7.25,
    (ARRAY['EUR', 'USD', 'GBP', 'JPY'])[1 + i % 4], (ARRAY['Submitted', 'InReview', 'Approved', 'Declined'])[1 + i % 4],
    timestamptz '2024-01-01 00:00:00+00' + i * interval '4 hours'
FROM generate_series(1, {applications}) AS i
ON CONFLICT DO NOTHING;

INSERT INTO loans (loan_id, application_id, customer_id, principal, currency, annual_rate, opened_date)
SELECT a.application_id, a.application_id, a.customer_id, a.requested_amount, a.currency, 0.0250 + (a.application_id % 40) * 0.001,
    a.created_date + interval '9 days'
FROM applications AS a
WHERE a.application_id <= {loans}
ON CONFLICT DO NOTHING;
