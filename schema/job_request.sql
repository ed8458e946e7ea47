-- Requests for reports, in PostgreSQL: the columns that the reports in this repository read and write.
--
-- In a deployment the report service has already created this table, with more columns and with the environment as the
-- prefix of its name. Put that name into this file and apply it once: it adds the two columns of the lease. It may be run
-- repeatedly.

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

-- The run that processes the request, and until when it has promised to renew its claim.
ALTER TABLE dev_job_request ADD COLUMN IF NOT EXISTS lease_owner text;
ALTER TABLE dev_job_request ADD COLUMN IF NOT EXISTS lease_expires timestamptz;
