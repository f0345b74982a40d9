DELETE FROM members
WHERE (group_id, id) IN (
    SELECT members.group_id, members.id
    FROM groups INNER JOIN members ON members.group_id = groups.id
    WHERE groups.expires_at <= (SELECT now FROM clock)
    LIMIT :limit
)
