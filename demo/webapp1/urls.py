from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from webapp1 import views

urlpatterns = [
    path("", views.room_page, {"room": "room1"}, name="room1"),
    path("rooms/", views.go_to_room, name="go-to-room"),
    path("rooms/<path:room>/", views.room_page, name="room"),
    path("together/", views.together, name="together"),
    path("announce/<path:room>/", views.announce, name="announce"),
    path("sign-in/", LoginView.as_view(redirect_authenticated_user=True), name="sign-in"),
    path("sign-up/", views.SignUp.as_view(), name="sign-up"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("language/", include("django.conf.urls.i18n")),
    path("health/", views.health, name="health"),
    path("admin/", admin.site.urls),
    path("", include("yamabiko.urls")),
]
