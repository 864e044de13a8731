"""A dump, restored into a bare project, as Supabase's command line does it."""
