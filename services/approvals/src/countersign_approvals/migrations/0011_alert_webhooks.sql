-- Webhooks are told of alerts about agents too: a delivery is about an approval or about an alert.
ALTER TABLE webhook_delivery ALTER COLUMN approval_id DROP NOT NULL;
ALTER TABLE webhook_delivery ADD COLUMN alert_id text CHECK ((alert_id IS NULL) <> (approval_id IS NULL));
