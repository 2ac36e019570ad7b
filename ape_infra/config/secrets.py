"""The secrets of a stack. Pulumi holds their values; the settings know only which are set."""

from __future__ import annotations

MODEL_API_KEY = "modelApiKey"
CEREBRAS_API_KEY = "cerebrasApiKey"
AGENT_TOKEN = "agentToken"
GRAFANA_PASSWORD = "grafanaPassword"
REMOTE_WRITE_TOKEN = "remoteWriteToken"
WEBHOOK_TOKEN = "alertWebhookToken"
SLACK_URL = "alertSlackUrl"
SMTP_PASSWORD = "alertSmtpPassword"
TARGET_CREDENTIALS = "targetCredentials"
# In place of a secret, in the preview of a pipeline.
STAND_IN = "stand-in-of-a-preview"
SECRETS = {
    MODEL_API_KEY: "Key of the model's provider; required with the providers that ask for one.",
    CEREBRAS_API_KEY: "Key of the provider cerebras, where modelApiKey is not set.",
    AGENT_TOKEN: "Token of the agents for the proxy; empty: derived from the model's key.",
    GRAFANA_PASSWORD: "Password of Grafana's admin user; required in production and with Grafana.",
    REMOTE_WRITE_TOKEN: "Bearer token for remoteWriteUrl.",
    WEBHOOK_TOKEN: "Bearer token for alertWebhookUrl.",
    SLACK_URL: "URL of a Slack incoming webhook for alerts; empty: none.",
    SMTP_PASSWORD: "Password of alertSmtpUser.",
    TARGET_CREDENTIALS: "Credentials of the agents for the target, as JSON: an object such as "
    "username and password, or a list of them, of which agent n uses the n-th.",
}
