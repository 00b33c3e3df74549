"""The scoring job: plan, pipeline, stages, actors, and the settlement at the end. Here all
other folders meet.
"""
