"""What must be remembered: zones, rules, announcements, incidents, detections, the audit chain, the outbox.

Anyone may record an intent here; `rules.guard` is asked in the same transaction. Start at `store.store.Store`.
"""
