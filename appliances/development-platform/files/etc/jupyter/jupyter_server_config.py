"""JupyterLab for one developer behind nginx.

The password is in the developer's own configuration.
"""

c = get_config()  # noqa: F821 - Jupyter's own
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.base_url = "/jupyter/"
c.ServerApp.default_url = "/jupyter/lab"
c.ServerApp.root_dir = "/home/developer"
c.ServerApp.open_browser = False
c.ServerApp.trust_xheaders = True
c.ServerApp.quit_button = False
# Behind nginx every name reaches it; cookies and tokens protect it, not the name.
c.ServerApp.allow_remote_access = True
c.IdentityProvider.token = ""
