"""``python -m deploy`` writes the files here that follow from others: lists of jobs, manifests, the dashboard."""

import argparse

from deploy import job_lists, required_keys
from deploy.operator import base
from deploy.prometheus import dashboard, expressions

WRITTEN = {
    job_lists.VALUES: job_lists.build_values,
    required_keys.FILE: required_keys.build,
    # Rendered with both, so after them.
    base.BASE: base.build,
    expressions.RULES: job_lists.build_rules,
    expressions.DASHBOARD: dashboard.build,
}
"""What each file must be."""

if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m deploy", description=__doc__).parse_args()
    for file, build in WRITTEN.items():
        file.write_text(build())
