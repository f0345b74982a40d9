DELETE FROM claims
WHERE rowid IN (SELECT rowid FROM claims WHERE expires_at <= (SELECT now FROM clock) LIMIT :limit)
