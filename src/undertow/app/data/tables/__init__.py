"""Tables to series: features, groups, what is missing, what is known of the future."""
