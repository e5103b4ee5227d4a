{% if config_get("cloud-init.network-config", "") != "" %}{{ config_get("cloud-init.network-config", "") }}{% else %}{% if config_get("user.network-config", "") != "" %}{{ config_get("user.network-config", "") }}{% else %}version: 2
ethernets:
  all:
    match: {name: "e*"}
    dhcp4: true
    optional: true{% endif %}{% endif %}
