DELETE FROM groups
WHERE rowid IN (
    SELECT rowid FROM groups
    WHERE
        expires_at <= (SELECT now FROM clock)
        AND NOT EXISTS (SELECT 1 FROM members WHERE members.group_id = groups.id)
    LIMIT :limit
)
