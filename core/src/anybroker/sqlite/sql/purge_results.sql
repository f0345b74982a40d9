DELETE FROM results
WHERE rowid IN (SELECT rowid FROM results WHERE expires_at <= (SELECT now FROM clock) LIMIT :limit)
