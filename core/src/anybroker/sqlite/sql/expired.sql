-- Whether there is anything that purge_*.sql would remove.
SELECT
    EXISTS (SELECT 1 FROM results WHERE expires_at <= (SELECT now FROM clock))
    OR EXISTS (SELECT 1 FROM groups WHERE expires_at <= (SELECT now FROM clock))
    OR EXISTS (SELECT 1 FROM claims WHERE expires_at <= (SELECT now FROM clock))
