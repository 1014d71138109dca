"""An answer in a shape: an object of your own class instead of a text."""

from pydantic import BaseModel, Field

from aistrale_langchain import ChatAistrale


class Ingredient(BaseModel):
    name: str
    grams: int


class Recipe(BaseModel):
    """A dish and what goes into it."""

    title: str
    minutes: int = Field(description="How long it takes, from start to table")
    ingredients: list[Ingredient]


cook = ChatAistrale().with_structured_output(Recipe)  # method="function_calling" for models that know tools only
recipe = cook.invoke("How do I make pancakes for two?")
assert isinstance(recipe, Recipe)

print(f"{recipe.title}, {recipe.minutes} minutes")
for ingredient in recipe.ingredients:
    print(f"  {ingredient.grams} g {ingredient.name}")
