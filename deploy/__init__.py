"""How the jobs and readers get into production: images, manifests, alarms, and what checks them."""
