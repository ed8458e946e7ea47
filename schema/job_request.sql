-- Requests for reports, on PostgreSQL: what the reports in this repository read and write of the table.
--
-- Deployments have it already, with the environment before its name and with more columns: the report service in front
-- of it makes it. This file is for a machine without one. It can be run again.

CREATE TABLE IF NOT EXISTS dev_job_request (
    tag text NOT NULL,
    request_id text NOT NULL,
    job_id text NOT NULL,
    status text NOT NULL,
    request_data json NOT NULL,
    requested_by text NOT NULL,
    requested_channel text NOT NULL,
    dt_job_submitted timestamp NOT NULL,
    download_urls text[],
    dt_file_created timestamp,
    dt_job_completed timestamp,
    execution_time bigint,
    err_message text,
    iteration int,
    encryption_key text,
    batch_number int,
    processed_batches json,
    PRIMARY KEY (tag, request_id)
);
