INSERT INTO members (group_id, id)
SELECT :group_id, :member_id
WHERE NOT EXISTS (SELECT 1 FROM groups WHERE id = :group_id AND sealed)
ON CONFLICT DO NOTHING
