-- +goose Up
-- When a task that is not done becomes an event; the job of that time has the task's id.
ALTER TABLE projects.tasks ADD COLUMN due_at timestamptz;

-- +goose Down
ALTER TABLE projects.tasks DROP COLUMN due_at;
