package projects

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/resource"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

const insertTaskSQL = `
	INSERT INTO projects.tasks (tenant_id, id, project_id, title, description, due_at)
	VALUES ($1, $2, $3, $4, $5, $6)
	RETURNING id, project_id AS project, title, description, state, due_at, version, created_at, updated_at`

// insertTask relies on the foreign key to find a project that is not, or no
// longer, there.
func insertTask(ctx context.Context, tx *store.Tx, project string, t NewTask) (Task, error) {
	id, err := resource.NewID("task")
	if err != nil {
		return Task{}, err
	}
	task, err := resource.One[Task](ctx, tx, "task", insertTaskSQL, tx.Tenant, id, project, t.Title, resource.Or(t.Description, ""), t.DueAt)
	if pg.Code(err) == pg.ForeignKeyViolation {
		return task, problem.New(problem.NotFound, "no such project")
	}
	return task, err
}

const selectTaskSQL = `
	SELECT id, project_id AS project, title, description, state, due_at, version, created_at, updated_at
	  FROM projects.tasks
	 WHERE tenant_id = $1 AND id = $2`

func findTask(ctx context.Context, tx *store.Tx, id string) (Task, error) {
	return resource.One[Task](ctx, tx, "task", selectTaskSQL, tx.Tenant, id)
}

// lockTask holds the task until the end of the transaction and checks If-Match.
func lockTask(ctx context.Context, tx *store.Tx, id string, ifMatch *string) (Task, error) {
	t, err := resource.One[Task](ctx, tx, "task", selectTaskSQL+" FOR UPDATE", tx.Tenant, id)
	if err != nil {
		return t, err
	}
	return t, resource.CheckMatch(ifMatch, t.Version)
}

const selectTasksSQL = `
	SELECT id, project_id AS project, title, description, state, due_at, version, created_at, updated_at
	  FROM projects.tasks
	 WHERE tenant_id = $1 AND project_id = $2 AND id > $3
	 ORDER BY id
	 LIMIT $4`

func listTasks(ctx context.Context, tx *store.Tx, project, after string, limit int) ([]Task, error) {
	rows, err := tx.Query(ctx, selectTasksSQL, tx.Tenant, project, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Task])
}

const updateTaskSQL = `
	UPDATE projects.tasks
	   SET title = coalesce($3, title), description = coalesce($4, description), state = coalesce($5, state),
	       due_at = CASE WHEN $6 THEN $7 ELSE due_at END, version = version + 1, updated_at = now()
	 WHERE tenant_id = $1 AND id = $2
	RETURNING id, project_id AS project, title, description, state, due_at, version, created_at, updated_at`

func updateTask(ctx context.Context, tx *store.Tx, id string, c TaskChange) (Task, error) {
	return resource.One[Task](ctx, tx, "task", updateTaskSQL, tx.Tenant, id, c.Title, c.Description, nil, c.DueAt.Named, c.DueAt.At)
}

func setTaskState(ctx context.Context, tx *store.Tx, id string, to TaskState) (Task, error) {
	return resource.One[Task](ctx, tx, "task", updateTaskSQL, tx.Tenant, id, nil, nil, to, false, nil)
}

const deleteTaskSQL = `DELETE FROM projects.tasks WHERE tenant_id = $1 AND id = $2`

func deleteTask(ctx context.Context, tx *store.Tx, id string) error {
	if _, err := tx.Exec(ctx, deleteTaskSQL, tx.Tenant, id); err != nil {
		return fmt.Errorf("delete task: %w", err)
	}
	return nil
}
