SELECT id, state, attempt, body FROM results
WHERE id = ?1 AND (expires_at IS NULL OR expires_at > (SELECT now FROM clock))
